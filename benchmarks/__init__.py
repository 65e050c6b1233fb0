"""Our engine beside others, load, soak and agreement; what they measured is kept in results/."""

from model import environment as environment  # before any library is loaded

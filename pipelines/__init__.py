"""The pipeline's definition, its profiles, and what runs them: `python -m pipelines.run --help`."""

from model import environment as environment  # before any library is loaded

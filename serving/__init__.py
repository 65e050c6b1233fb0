"""The KServe predictor: ``engine`` generates, ``service`` is the core call, everything else translates protocols to it.

python -m serving --bundle runs/latest/bundle
"""

from model import environment as environment  # before any library is loaded

"""The KServe predictor: ``engine`` generates, ``service`` is the core call, everything else translates protocols to it.

python -m serving --bundle runs/latest/bundle
"""

import model.processors  # noqa: F401  # settles the threads of libraries before the first of them is imported

"""Prometheus Mini in Python: a bundle in, text out, in this process.

from prometheus_mini import load

model = load("runs/latest/bundle")
model.translate("Этот рис такой сладкий!", to="en")
"""

import sys

try:
    from model.errors import ProjectError as Error
except ModuleNotFoundError as error:
    if error.name != "model.errors":
        raise
    # A model.py of somebody else's: only an editable install looks for a package of this name beside it.
    found = f"prometheus_mini found another module called model, {sys.modules['model'].__file__}"
    raise ImportError(f"{found}; rename that, or install a wheel, which does not use the name") from None
from serving.errors import InvalidRequest
from serving.local import Model, Options, load

__all__ = ["Error", "InvalidRequest", "Model", "Options", "load"]

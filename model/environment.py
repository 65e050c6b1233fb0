"""What has to stand in the environment before any library is loaded: our packages import this module first.

ONNX Runtime's builds on PyPI report to their maker unless told otherwise before they are imported: a device id and a
queue of events below ~/.cache, with the names of models and how long they ran, and look-ups of the host that takes
them. Its function `disable_telemetry_events` comes too late for all of that, so the variable is what counts. Nobody who
runs this project has agreed to be reported on. A variable that is already set is the user's word, and stays.
"""

import os
import sys

NO_TELEMETRY = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "1",  # which heeds DO_NOT_TRACK only where it is the word "true"
    "DO_NOT_TRACK": "1",  # https://donottrack.sh, for whatever comes along with another library
}

for _name, _value in NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)
# Imported before us it has already said that it is there; of what follows it can still be told to say nothing.
if os.environ["ORT_DISABLE_TELEMETRY"] == "1" and hasattr(sys.modules.get("onnxruntime"), "disable_telemetry_events"):
    sys.modules["onnxruntime"].disable_telemetry_events()

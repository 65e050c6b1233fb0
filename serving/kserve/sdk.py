"""The one place that imports kserve, because importing it has side effects.

``kserve.model_server`` parses ``sys.argv`` while it is imported and exits on an argument that it cannot read: pytest's
options, or an abbreviation of ours. Here it sees an empty command line; ports and limits are handed over explicitly.
"""

import sys

_argv = sys.argv
sys.argv = _argv[:1]
try:
    from kserve import Model, ModelServer
    from kserve.model_server import app
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
finally:
    sys.argv = _argv

__all__ = ["Model", "ModelServer", "app", "pb"]

"""The one place that imports kserve, because importing it has side effects.

``kserve.model_server`` parses ``sys.argv`` while it is imported and exits on an argument that it cannot read: pytest's
options, or an abbreviation of ours. Here it sees an empty command line; ports and limits are handed over explicitly.
"""

from __future__ import annotations

import sys

_argv = sys.argv
sys.argv = _argv[:1]
try:
    from grpc_interceptor.exceptions import GrpcException
    from kserve import InferRequest, Model, ModelServer
    from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotLive, ServerNotReady
    from kserve.model_server import app
    from kserve.model_server import args as model_server_args
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest, ModelInferResponse
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
finally:
    sys.argv = _argv

__all__ = [
    "GrpcException",
    "InferRequest",
    "InferenceServicer",
    "InvalidInput",
    "Model",
    "ModelInferRequest",
    "ModelInferResponse",
    "ModelNotFound",
    "ModelNotReady",
    "ModelRepositoryExtension",
    "ModelServer",
    "ServerNotLive",
    "ServerNotReady",
    "app",
    "model_server_args",
]

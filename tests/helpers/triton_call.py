"""Ask a served model over v2 gRPC as tritonclient does.

    python triton_call.py HOST:PORT [AUTHORITY [TOKEN [MAX_TOKENS TEXT...]]]

A process of its own: tritonclient and kserve cannot be imported together.
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton

MODEL = "prometheus-mini"


def main(address: str, authority: str = "", token: str = "", max_tokens: str = "5", *texts: str) -> None:
    options = [("grpc.enable_http_proxy", 0), *([("grpc.default_authority", authority)] if authority else [])]
    headers = {"authorization": f"Bearer {token}"} if token else None
    client = triton.InferenceServerClient(address, channel_args=options)
    assert client.is_server_ready(headers=headers)
    assert client.is_model_ready(MODEL, headers=headers)
    metadata = client.get_model_metadata(MODEL, headers=headers)
    asked = [text.encode() for text in texts or ("Привет!", "hello")]
    tensor = triton.InferInput("text_input", [len(asked)], "BYTES")
    tensor.set_data_from_numpy(np.array(asked, dtype=object))
    result = client.infer(MODEL, [tensor], parameters={"target": "en", "max_tokens": int(max_tokens)}, headers=headers)
    outputs = [text.decode() for text in result.as_numpy("text_output")]
    print(json.dumps({"inputs": metadata.inputs[0].name, "outputs": outputs}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""KServe's own clients, REST and gRPC: ``python kserve_clients.py HTTP_PORT GRPC_PORT``."""

from __future__ import annotations

import asyncio
import sys

HTTP_PORT, GRPC_PORT = sys.argv[1:3]
del sys.argv[1:]  # kserve parses the command line when it is imported

import grpc  # noqa: E402
import httpx  # noqa: E402
import numpy as np  # noqa: E402
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402

MODEL = "prometheus-mini"
TEXTS = np.array(["привет мир".encode(), b"hello"], dtype=object)


def request(binary: bool, texts: np.ndarray = TEXTS, **parameters) -> InferRequest:
    tensor = InferInput("text_input", list(texts.shape), "BYTES")
    tensor.set_data_from_numpy(texts, binary_data=binary)
    return InferRequest(MODEL, [tensor], parameters={"target": "en", "max_tokens": 5, **parameters})


def outputs(response) -> dict[str, list]:
    found = {output.name: output.as_numpy().tolist() for output in response.outputs}
    return {name: [v.decode() if isinstance(v, bytes) else v for v in values] for name, values in found.items()}


async def main() -> None:
    rest, base = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30)), f"http://127.0.0.1:{HTTP_PORT}"
    assert await rest.is_server_live(base)
    assert await rest.is_server_ready(base)
    assert await rest.is_model_ready(base, MODEL)
    assert not await rest.is_model_ready(base, "other")
    json_answer = outputs(await rest.infer(base, request(False), model_name=MODEL))
    binary_answer = outputs(await rest.infer(base, request(True), model_name=MODEL))
    asked_binary = outputs(await rest.infer(base, request(True, binary_data_output=True), model_name=MODEL))
    assert len(json_answer["text_output"]) == 2
    assert json_answer == binary_answer == asked_binary
    try:
        await rest.infer(base, request(False, temperature=99), model_name=MODEL)
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 400
        assert "temperature" in error.response.text
    else:
        raise AssertionError("temperature 99 was taken")

    client = InferenceGRPCClient(f"127.0.0.1:{GRPC_PORT}")
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(MODEL)
    assert not await client.is_model_ready("other")
    for binary in (True, False):
        assert outputs(await client.infer(request(binary))) == json_answer
    drawn = [outputs(await client.infer(request(True, temperature="2.5", seed=s)))["text_output"][0] for s in range(6)]
    assert len(set(drawn)) > 1, "a float as text had no effect"
    beams = outputs(await client.infer(request(True, beams=2, length_penalty="0.5")))
    assert beams == outputs(await rest.infer(base, request(True, beams=2, length_penalty=0.5), model_name=MODEL))
    try:
        await client.infer(request(True, np.array([b"\xff"], dtype=object)))
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "UTF-8" in error.details()
    else:
        raise AssertionError("bytes that are not UTF-8 were taken")
    print("ok")


asyncio.run(main())

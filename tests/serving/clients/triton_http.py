"""tritonclient over HTTP: ``python triton_http.py HTTP_PORT``.

A process of its own: tritonclient.grpc and kserve define the same protobuf messages and cannot be imported together.
"""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

MODEL = "prometheus-mini"
TEXTS = np.array(["привет мир".encode(), b"hello"], dtype=object)
OUTPUTS = ("text_output", "finish_reason", "prompt_tokens", "generated_tokens")


def infer(
    client, texts=TEXTS, binary_in=True, binary_out=True, names=OUTPUTS, name="text_input", parameters=None, **kwargs
):
    tensor = triton.InferInput(name, list(texts.shape), "BYTES")
    tensor.set_data_from_numpy(texts, binary_data=binary_in)
    outputs = [triton.InferRequestedOutput(n, binary_data=binary_out) for n in names] if names else None
    parameters = {"target": "en", "max_tokens": 5, **(parameters or {})}
    result = client.infer(MODEL, [tensor], outputs=outputs, parameters=parameters, **kwargs)
    return {o["name"]: result.as_numpy(o["name"]).tolist() for o in result.get_response()["outputs"]}, result


def text(values):
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def refused(words, client, **kwargs):
    try:
        infer(client, **kwargs)
    except InferenceServerException as error:
        assert error.status() == "400", error
        assert words in error.message(), error
        return
    raise AssertionError(f"not refused: {kwargs}")


def main(port: str) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert [output["name"] for output in client.get_model_metadata(MODEL)["outputs"]] == list(OUTPUTS)

    expected, result = infer(client, request_id="42")
    assert result.get_response()["id"] == "42"
    assert len(text(expected["text_output"])) == 2
    for binary_in in (True, False):
        for binary_out in (True, False):
            found, _ = infer(client, binary_in=binary_in, binary_out=binary_out)
            assert text(found["text_output"]) == text(expected["text_output"]), (binary_in, binary_out)
            assert text(found["finish_reason"]) == text(expected["finish_reason"])
            assert found["generated_tokens"] == expected["generated_tokens"]
            assert found["prompt_tokens"] == expected["prompt_tokens"]
        assert set(infer(client, binary_in=binary_in, names=None)[0]) == set(OUTPUTS)
    assert list(infer(client, names=["generated_tokens"])[0]) == ["generated_tokens"]
    versioned, _ = infer(client, model_version="1")
    assert versioned == expected
    for compression in ("gzip", "deflate"):
        packed, _ = infer(client, request_compression_algorithm=compression, response_compression_algorithm=compression)
        assert packed == expected, compression
    extras, _ = infer(client, priority=1, timeout=1_000_000, sequence_id=7, sequence_start=True)
    assert extras == expected

    drawn = {
        seed: infer(client, parameters={"temperature": 2.5, "seed": seed})[0]["text_output"][0] for seed in range(6)
    }
    assert len(set(drawn.values())) > 1, "temperature has no effect"

    refused("text_input: the batch is empty", client, texts=np.array([], dtype=object))
    refused("is not UTF-8", client, texts=np.array([b"\xff\xfe"], dtype=object))
    refused("unknown input tensor 'text'", client, name="text")
    refused("unknown output tensor 'logits'", client, names=["logits"])
    refused("temperature", client, parameters={"temperature": 99.0})
    refused("heat: unknown parameter", client, parameters={"heat": 1})
    refused("n: v2 returns one output for each input", client, parameters={"n": 2})
    beams, _ = infer(client, parameters={"beams": 2, "length_penalty": 0.5, "n": 1})
    assert len(beams["text_output"]) == 2
    penalized, _ = infer(client, parameters={"frequency_penalty": 0.5})
    assert len(penalized["text_output"]) == 2
    refused("frequency_penalty", client, parameters={"frequency_penalty": 2.5})
    # What Triton has and the v2 protocol, as served here, has not.
    for status, call in (
        ("403", lambda: client.unload_model(MODEL)),
        ("403", lambda: client.load_model(MODEL)),
        ("404", client.get_model_repository_index),
        ("404", lambda: client.get_model_config(MODEL)),
        ("404", lambda: client.get_inference_statistics(MODEL)),
        ("404", client.get_inference_statistics),
        ("404", lambda: client.get_trace_settings(MODEL)),
        ("404", lambda: client.update_trace_settings(MODEL, {"trace_level": ["OFF"]})),
        ("404", client.get_log_settings),
        ("404", client.get_system_shared_memory_status),
        ("404", lambda: client.register_system_shared_memory("a", "/a", 8)),
        ("404", client.get_cuda_shared_memory_status),
        ("404", lambda: client.unregister_cuda_shared_memory("a")),
    ):
        try:
            call()
        except InferenceServerException as error:
            assert error.status() == status, error
            assert any(words in error.message() for words in ("closed", "no such address", "not served here")), error
        else:
            raise AssertionError("a call that is not served was answered")
    assert infer(client)[0] == expected
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])

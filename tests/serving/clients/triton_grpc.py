"""tritonclient over gRPC: ``python triton_grpc.py GRPC_PORT``; floats travel as double_param, which KServe loses."""

from __future__ import annotations

import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

MODEL = "prometheus-mini"
TEXTS = np.array(["привет мир".encode(), b"hello"], dtype=object)
OUTPUTS = ("text_output", "finish_reason", "prompt_tokens", "generated_tokens")


def text_tensor(texts, name="text_input"):
    tensor = triton.InferInput(name, list(texts.shape), "BYTES")
    tensor.set_data_from_numpy(texts)
    return tensor


def infer(client, texts=TEXTS, names=OUTPUTS, name="text_input", parameters=None, **kwargs):
    outputs = [triton.InferRequestedOutput(n) for n in names] if names else None
    parameters = {"target": "en", "max_tokens": 5, **(parameters or {})}
    result = client.infer(MODEL, [text_tensor(texts, name)], outputs=outputs, parameters=parameters, **kwargs)
    return {output.name: result.as_numpy(output.name).tolist() for output in result.get_response().outputs}


def streamed(client, requests):
    """What comes of a stream's requests, (id, texts, parameters) each: results by id, and errors, in order."""
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number, (request_id, texts, parameters) in enumerate(requests):
        client.async_stream_infer(
            MODEL,
            [text_tensor(texts)],
            request_id=request_id,
            parameters={"target": "en", "max_tokens": 5, **parameters},
            enable_empty_final_response=number % 2 == 0,  # every request has one, asked for or not
        )
    results, errors, left = {request_id: [] for request_id, _, _ in requests}, [], len(requests)
    while left:
        result, error = answers.get(timeout=30)
        if error is not None:
            errors.append(str(error))
            left -= 1
            continue
        response = result.get_response()
        results[response.id].append(result)
        left -= is_final(result)
    client.stop_stream()
    assert answers.empty()
    return results, errors


def is_final(result):
    return result.get_response().parameters["triton_final_response"].bool_param


def streams(client):
    drawn = {"temperature": 2.5, "seed": 3, "max_tokens": 20}
    asked = [("a", TEXTS, {}), ("bad", TEXTS, {"heat": 1.5}), ("b", TEXTS[:1], drawn), ("c", TEXTS, {"max_tokens": 1})]
    results, errors = streamed(client, asked)
    assert not results["bad"]
    (error,) = errors
    assert "[request id: bad] heat: unknown parameter" in error, error
    for request_id, texts, parameters in asked:
        if request_id == "bad":
            continue
        found = [{name: result.as_numpy(name).tolist() for name in OUTPUTS} for result in results[request_id]]
        expected = infer(client, texts, parameters=parameters)
        pieces = [piece["text_output"] for piece in found]
        assert [b"".join(of_one) for of_one in zip(*pieces, strict=True)] == expected.pop("text_output")
        assert {name: found[-1][name] for name in expected} == expected
        finals = [is_final(result) for result in results[request_id]]
        assert finals == [False] * (len(finals) - 1) + [True]
    assert len(results["b"]) > 2


def refused(code, words, call):
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}", error
        assert words in error.message(), error
        return
    raise AssertionError("not refused")


def main(port: str) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")
    assert client.get_model_metadata(MODEL).inputs[0].datatype == "BYTES"

    expected = infer(client)
    assert len(expected["text_output"]) == 2
    assert all(1 <= n <= 5 for n in expected["generated_tokens"])
    assert infer(client, model_version="1") == expected
    assert infer(client, names=None) == expected
    assert list(infer(client, names=["generated_tokens"])) == ["generated_tokens"]
    assert infer(client, priority=1, timeout=1_000_000, sequence_id=7, sequence_start=True) == expected

    # A float that got lost would leave the greedy text, whatever the seed.
    drawn = {s: infer(client, parameters={"temperature": 2.5, "seed": s})["text_output"][0] for s in range(6)}
    assert len(set(drawn.values())) > 1, "temperature has no effect: the double was lost"
    as_text = {s: infer(client, parameters={"temperature": "2.5", "seed": str(s)})["text_output"][0] for s in range(6)}
    assert as_text == drawn

    def bad(words, **kwargs):
        refused("INVALID_ARGUMENT", words, lambda: infer(client, **kwargs))

    bad("temperature: must be", parameters={"temperature": 99.5})
    bad("99.5", parameters={"temperature": 99.5})
    bad("top_p", parameters={"top_p": -0.25})
    bad("the batch is empty", texts=np.array([], dtype=object))
    bad("is not UTF-8", texts=np.array([b"\xff\xfe"], dtype=object))
    bad("unknown input tensor 'text'", name="text")
    bad("unknown output tensor 'logits'", names=["logits"])
    bad("heat: unknown parameter", parameters={"heat": 1.5})
    bad("n: v2 returns one output for each input", parameters={"n": 2})
    bad("beams: must be between 1 and 8", parameters={"beams": 9})
    beams = infer(client, parameters={"beams": 2, "length_penalty": 0.5, "n": 1})
    assert len(beams["text_output"]) == 2
    assert len(infer(client, parameters={"frequency_penalty": 0.5})["text_output"]) == 2
    bad("2.5", parameters={"frequency_penalty": 2.5})
    # What Triton has and the v2 protocol, as served here, has not.
    for name, call in (
        ("RepositoryIndex", client.get_model_repository_index),
        ("ModelConfig", lambda: client.get_model_config(MODEL)),
        ("ModelStatistics", client.get_inference_statistics),
        ("TraceSetting", client.get_trace_settings),
        ("LogSettings", client.get_log_settings),
        ("SystemSharedMemoryStatus", client.get_system_shared_memory_status),
        ("CudaSharedMemoryUnregister", client.unregister_cuda_shared_memory),
    ):
        refused("UNIMPLEMENTED", f"{name} is not served here", call)
    streams(client)
    refused("PERMISSION_DENIED", "closed", lambda: client.unload_model(MODEL))
    refused("PERMISSION_DENIED", "closed", lambda: client.load_model(MODEL))
    assert infer(client) == expected
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1])

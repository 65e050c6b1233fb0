"""Bundles: what is refused and why, written whole or not at all, replaced without a half-made moment."""

import json
import os
import subprocess
import sys
import threading

import pytest

from model.bundle import Bundle, BundleError, copy_bundle, write_bundle
from model.bundle.introduction import sentence
from model.config import NetworkConfig, to_dict
from model.files import replace_directory

SHA = "0" * 64


def fields(**overrides):
    return {
        "family": "decoder",
        "task": "text",
        "precision": "fp32",
        "languages": ["ru", "en"],
        "authors": [],
        "config": NetworkConfig(family="decoder"),
        "vocab_size": 300,
        "limits": {"max_prompt_tokens": 255, "max_new_tokens": 256},
        "tokenizer": {"kind": "char", "sha256": SHA},
        "graphs": {"decoder": "decoder.onnx"},
        **overrides,
    }


FILES = {"decoder.onnx": b"graph bytes", "tokenizer.json": b"{}"}


@pytest.fixture
def bundle(tmp_path):
    write_bundle(tmp_path / "bundle", files=FILES, **fields())
    return tmp_path / "bundle"


def edit(bundle, change):
    manifest = json.loads((bundle / "bundle.json").read_text())
    change(manifest)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def test_round_trip(bundle):
    loaded = Bundle.load(bundle)
    assert loaded.config == NetworkConfig(family="decoder") and loaded.name == "prometheus-mini"
    assert loaded.cache_dtype == "float32" and loaded.metrics == {} and loaded.format_version == 1
    assert loaded.graph("decoder").read_bytes() == b"graph bytes"
    assert loaded.bytes == sum(map(len, FILES.values()))


def test_same_inputs_same_bytes(tmp_path):
    from_file = tmp_path / "graph"
    from_file.write_bytes(FILES["decoder.onnx"])
    write_bundle(tmp_path / "one", files=FILES, **fields())
    reordered = {"tokenizer.json": FILES["tokenizer.json"], "decoder.onnx": from_file}
    write_bundle(tmp_path / "two", files=reordered, **dict(reversed(fields().items())))
    contents = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert contents[0] == contents[1]


OLDER = {
    "format_version": 1,
    "name": "prometheus-mini",
    "family": "decoder",
    "task": "text",
    "precision": "int8",
    "languages": ["ru", "en"],
    "authors": ["Иван"],
    "config": {
        "family": "decoder", "d_model": 256, "encoder_layers": 6, "decoder_layers": 2, "heads": 4, "kv_heads": 1,
        "head_dim": 64, "d_ff": 1264, "max_positions": 256, "rope_theta": 10000.0, "norm_eps": 3e-06, "dropout": 0.0,
    },
    "vocab_size": 300,
    "limits": {"max_prompt_tokens": 255, "max_new_tokens": 256},
    "cache_dtype": "int8",
    "tokenizer": {"kind": "char", "sha256": SHA},
    "graphs": {"decoder": "decoder.onnx"},
    "files": {
        "decoder.onnx": {"bytes": 11, "sha256": "26d0900dac51fc6d16dfda2b932b2eeb10c2b3c1517d6e6365e224d05c23fcc3"},
        "tokenizer.json": {"bytes": 2, "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
    },
    "metrics": {"chrf": 57.0, "by": {"heldout/ru-en": [1, 2.5]}},
    "provenance": {"run_id": "r1", "z": None, "a": True},
}  # fmt: skip


@pytest.mark.parametrize("left_out", [(), ("norm_eps", "dropout")])
def test_a_bundle_of_an_earlier_release_loads_and_is_copied_as_it_is(tmp_path, left_out):
    """As version 1 has been written since the first release, with fewer settings of the network too."""
    older = {**OLDER, "config": {name: value for name, value in OLDER["config"].items() if name not in left_out}}
    text = json.dumps(older, ensure_ascii=False, indent=2) + "\n"
    (tmp_path / "older").mkdir()
    for name, contents in {**FILES, "bundle.json": text.encode()}.items():
        (tmp_path / "older" / name).write_bytes(contents)
    loaded = Bundle.load(tmp_path / "older")
    assert loaded.config == NetworkConfig(family="decoder", **({} if left_out else {"norm_eps": 3e-6}))
    assert loaded.limits == OLDER["limits"] and loaded.metrics == OLDER["metrics"] and loaded.authors == ["Иван"]
    copy_bundle(tmp_path / "older", tmp_path / "copy", {}, {})
    assert (tmp_path / "copy" / "bundle.json").read_text() == text
    written = write_bundle(tmp_path / "new", files=FILES, **{k: v for k, v in older.items() if k != "files"})
    assert written == older and (tmp_path / "new" / "bundle.json").read_text() == text


def test_a_missing_file(bundle):
    (bundle / "decoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"decoder\.onnx: missing, though bundle\.json lists it"):
        Bundle.load(bundle)


def test_an_altered_file(bundle):
    (bundle / "decoder.onnx").write_bytes(b"graph_bytes")
    with pytest.raises(BundleError, match=r"decoder\.onnx: hash mismatch: sha256 [0-9a-f]{64}, bundle\.json says"):
        Bundle.load(bundle)
    assert Bundle.load(bundle, verify=False).family == "decoder"
    (bundle / "decoder.onnx").write_bytes(b"graph")
    with pytest.raises(BundleError, match=r"5 bytes, bundle\.json says 11; the file is cut short"):
        Bundle.load(bundle, verify=False)


def test_a_file_nobody_listed(bundle):
    (bundle / ".marker").write_text("left by a storage initializer")
    Bundle.load(bundle)
    (bundle / "weights.pkl").write_bytes(b"")
    with pytest.raises(BundleError, match=r"does not list: weights\.pkl; remove them"):
        Bundle.load(bundle)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "", ".", "..", ".hidden", "bundle.json", "a\\b", "a\0b"]
)
def test_unsafe_file_names(bundle, tmp_path, name):
    unsafe = "they lie directly in the bundle, under names of plain letters|cannot be one of them"
    with pytest.raises(BundleError, match=unsafe):
        write_bundle(tmp_path / "other", files={**FILES, name: b""}, **fields())
    assert not (tmp_path / "other").exists()
    edit(bundle, lambda manifest: manifest["files"].update({name: {"bytes": 0, "sha256": SHA}}))
    with pytest.raises(BundleError, match=unsafe):
        Bundle.load(bundle)


@pytest.mark.parametrize("version", [4, "1", None, True, 0])
def test_an_unknown_format_version(bundle, version):
    edit(bundle, lambda manifest: manifest.update(format_version=version))
    with pytest.raises(BundleError, match=r"unknown format_version .*; this version reads 1, 2, 3"):
        Bundle.load(bundle)


INTRODUCTION = {
    "about": "", "rows": 22542, "characters": 1234567, "sources": ["demo.jsonl.zst"],
    "examples": [{"text": "Этот рис такой сладкий!", "language": "ru"}],
}  # fmt: skip


def test_an_introduction_is_of_version_2_and_goes_along_with_copies(bundle, tmp_path):
    write_bundle(tmp_path / "introduced", files=FILES, **fields(introduction=INTRODUCTION))
    copy_bundle(tmp_path / "introduced", tmp_path / "copy", {"chrf": 50.0}, {})
    for name in ("introduced", "copy"):
        loaded = Bundle.load(tmp_path / name)
        assert loaded.format_version == 2 and loaded.introduction == INTRODUCTION
    assert "introduction" not in json.loads((bundle / "bundle.json").read_text()), "earlier releases can read it"
    edit(bundle, lambda manifest: manifest.update(introduction=INTRODUCTION))
    with pytest.raises(BundleError, match="introduction: has to be there in format_version 2, and not in 1"):
        Bundle.load(bundle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"examples": [{"text": "x" * 301, "language": "ru"}]}, r"introduction.examples\[0\].text"),
        ({"examples": [{"text": "x", "language": "ru"}] * 33}, r"introduction.examples"),
        ({"rows": -1}, r"introduction.rows"),
    ],
)
def test_an_introduction_is_bounded(tmp_path, change, words):
    with pytest.raises(BundleError, match=words):
        write_bundle(tmp_path / "bundle", files=FILES, **fields(introduction={**INTRODUCTION, **change}))


SEARCHING = {"config": NetworkConfig(), "family": "seq2seq", "task": "translation"}
BOTH = {"encoder.onnx": b"encoder", "decoder.onnx": b"decoder", "tokenizer.json": b"{}"}


def searching(**more):
    """The fields of a bundle that may have beams."""
    graphs = {"encoder": "encoder.onnx", "decoder": "decoder.onnx"}
    return fields(**SEARCHING, graphs=graphs, **more)


def test_beams_are_of_version_3_and_earlier_releases_read_a_bundle_without(tmp_path):
    for name, introduction in (("plain", None), ("introduced", INTRODUCTION)):
        write_bundle(tmp_path / name, files=BOTH, **searching(introduction=introduction))
        copy_bundle(tmp_path / name, tmp_path / f"{name}-4", {}, {}, beams=4)
        copy_bundle(tmp_path / f"{name}-4", tmp_path / f"{name}-again", {"chrf": 50.0}, {})
        copy_bundle(tmp_path / name, tmp_path / f"{name}-greedy", {}, {}, beams=1)
        for copy, beams, version in (("4", 4, 3), ("again", 4, 3), ("greedy", 1, 2 if introduction else 1)):
            loaded = Bundle.load(tmp_path / f"{name}-{copy}")
            assert (loaded.default_beams, loaded.format_version) == (beams, version)
            assert loaded.introduction == introduction
            assert ("generation" in json.loads((loaded.path / "bundle.json").read_text())) is (beams > 1)


def test_beams_are_bounded_and_for_what_can_search(bundle, tmp_path):
    for beams, words in ((1, "generation.beams: must be at least 2"), (9, "generation.beams: must be at most 8")):
        with pytest.raises(BundleError, match=words):
            write_bundle(tmp_path / "bundle", files=BOTH, **searching(generation={"beams": beams}))
    with pytest.raises(BundleError, match="generation: beams are for the family seq2seq, not decoder"):
        copy_bundle(bundle, tmp_path / "decoder", {}, {}, beams=4)
    write_bundle(tmp_path / "bundle", files=BOTH, **searching())
    edit(tmp_path / "bundle", lambda manifest: manifest.update(generation={"beams": 4}))
    with pytest.raises(BundleError, match="generation: has to be there in format_version 3, and in no other"):
        Bundle.load(tmp_path / "bundle")


def test_the_sentence_is_the_owners_or_made_of_the_figures():
    figures = "22,542 ru-en pairs, 1,234,567 characters from demo.jsonl.zst."
    assert sentence(INTRODUCTION, ["ru", "en"]) == f"Trained on {figures}"
    nameless = {**INTRODUCTION, "sources": []}
    assert sentence(nameless, []) == "Trained on 22,542 pieces of text, 1,234,567 characters."
    assert sentence({**INTRODUCTION, "about": "Phrases of a phrasebook."}, ["ru", "en"]) == "Phrases of a phrasebook."


def test_unknown_and_missing_keys(bundle):
    edit(bundle, lambda manifest: (manifest.update(pickled="yes"), manifest.pop("limits")))
    with pytest.raises(BundleError, match=r"bundle\.json: limits: is missing .*; pickled: unknown setting"):
        Bundle.load(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ("[" * 100_000, "not valid JSON"),
        ("\udcff", "not valid JSON"),
    ],
)
def test_broken_json(bundle, text, message):
    (bundle / "bundle.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle)


def test_what_is_no_bundle_at_all(tmp_path):
    with pytest.raises(BundleError, match="no such directory"):
        Bundle.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="not a bundle, or it is still being written"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "mamba"}, "family: 'mamba' is not one of seq2seq, decoder"),
        ({"family": "seq2seq"}, "family is 'seq2seq' but config.family is 'decoder'"),
        ({"cache_dtype": "int8"}, "cache_dtype 'int8' does not go with precision 'fp32'"),
        ({"vocab_size": 0}, "vocab_size: must be at least 1, not 0"),
        ({"languages": "ru"}, "languages: expected a list, found 'ru'"),
        ({"limits": {"max_prompt_tokens": 1}}, r"limits: expected .*, found \['max_prompt_tokens'\]"),
        ({"limits": {"max_prompt_tokens": 0}}, r"limits\.max_prompt_tokens: must be at least 1, not 0"),
        ({"graphs": {"decoder": "other.onnx"}}, r"graphs: 'other\.onnx' is not among the files"),
        ({"graphs": {}}, r"graphs: a decoder bundle has \['decoder'\], found \[\]"),
        ({"tokenizer": {"kind": "char"}}, r"tokenizer\.sha256: is missing"),
        ({"metrics": []}, "metrics: expected a mapping"),
        ({"config": {"family": "decoder", "layers": 3}}, r"config\.layers: unknown setting"),
        ({"name": "a/b"}, "name: 'a/b' is not of the form"),
        ({"files": {"decoder.onnx": {"bytes": -1, "sha256": SHA}}}, r"files\.decoder\.onnx\.bytes: must be at least 0"),
        ({"files": {"decoder.onnx": {"bytes": 1, "sha256": SHA[1:]}}}, r"onnx\.sha256: '0+ is not of the form"),
        ({"tokenizer": {"kind": "char", "sha256": SHA, "x": 1}}, r"tokenizer\.x: unknown \(Kind and content hash"),
        ({"vocab_size": 0, "task": "song"}, "task: 'song' is not one of .*; vocab_size: must be at least 1, not 0"),
    ],
)
def test_contradictions_and_wrong_types(bundle, change, message):
    edit(bundle, lambda manifest: manifest.update(change))
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle)


def test_nothing_is_left_of_a_failed_write(bundle, tmp_path):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(BundleError, match="family: is missing"):
        write_bundle(bundle, files=FILES, **{key: value for key, value in fields().items() if key != "family"})
    with pytest.raises(FileNotFoundError):
        write_bundle(bundle, files={**FILES, "surplus.bin": tmp_path / "nowhere"}, **fields())
    with pytest.raises(BundleError, match="cannot be written as JSON"):
        write_bundle(bundle, files=FILES, **fields(metrics={"loss": float("nan")}))
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_is_replaced_without_a_moment_without_one(bundle):
    """A reader that opens the manifest over and over finds a whole one every time."""
    stop, problems, seen = threading.Event(), [], set()

    def read():
        while not stop.is_set():
            try:
                seen.add(json.loads((bundle / "bundle.json").read_text())["metrics"].get("round"))
            except (OSError, ValueError) as error:
                problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        write_bundle(bundle, files=FILES, **fields(metrics={"round": number}))
    stop.set()
    reader.join()
    if sys.platform == "linux":  # elsewhere two renames leave a moment with no bundle, never half of one
        assert problems == []
    assert len(seen) > 1
    assert Bundle.load(bundle).metrics == {"round": 39}
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_file_in_the_way_is_not_overwritten(tmp_path):
    (tmp_path / "bundle").write_text("notes")
    with pytest.raises(FileExistsError, match="a file is in the way"):
        write_bundle(tmp_path / "bundle", files=FILES, **fields())
    assert (tmp_path / "bundle").read_text() == "notes"


def test_replacing_keeps_the_old_when_filling_fails(tmp_path):
    replace_directory(tmp_path / "d", lambda partial: (partial / "a").write_text("old"))

    def fill(partial):
        (partial / "a").write_text("new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_directory(tmp_path / "d", fill)
    assert (tmp_path / "d" / "a").read_text() == "old" and os.listdir(tmp_path) == ["d"]


def test_a_copy_carries_more_and_the_source_stays(bundle, tmp_path):
    copy_bundle(bundle, tmp_path / "copy", {"chrf": 57.0}, {"run": "r1"})
    assert Bundle.load(tmp_path / "copy").metrics == {"chrf": 57.0}
    assert Bundle.load(bundle).metrics == {}


def test_other_peoples_files_are_not_replaced(bundle, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="holds other things than a bundle"):
        copy_bundle(bundle, tmp_path / "home", {}, {})
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    copy_bundle(bundle, tmp_path / "empty", {}, {})
    Bundle.load(tmp_path / "empty")


def test_the_command_line(bundle, tmp_path):
    def run(path):
        command = [sys.executable, "-m", "model.bundle", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    shown = run(bundle)
    assert shown.returncode == 0 and "decoder, text, fp32, 300 tokens" in shown.stdout and "ok" in shown.stdout
    refused = run(tmp_path)
    assert refused.returncode == 2 and "not a bundle" in refused.stderr


def test_every_field_of_the_network_survives(tmp_path):
    config = NetworkConfig(family="decoder", rope_theta=1234.5, norm_eps=3e-6, dropout=0.125)
    written = write_bundle(tmp_path / "bundle", files=FILES, **fields(config=config))
    assert written["config"] == to_dict(config)
    assert Bundle.load(tmp_path / "bundle").config == config

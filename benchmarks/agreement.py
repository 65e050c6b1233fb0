"""What int8 keeps of a trained model: the same tokens alone and in company, fp32's tokens, and its quality.

For each variant (fp32, int8 with a scale per row, int8 with calibrated scales), all through the serving engine:

* alone against batched: greedy outputs of held-out sentences one by one and all at once; they must be identical;
* against fp32: how many outputs, and how many tokens before the first difference, are the same;
* chrF and BLEU on every test set, and tokens per second.

It is by this table that `quantization.activation_scale` was chosen.

    python -m benchmarks.agreement --run runs/latest --out results/agreement.json
"""

import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, ROOT, BenchmarkError, heading, keep, markdown
from evaluation.evaluate import evaluate_bundle
from evaluation.figures import processor
from evaluation.prompts import bounded_request
from evaluation.results import Score
from model.bundle import Bundle
from model.config import EvaluationConfig, QuantizationConfig
from model.corpus import read_split
from model.onnx.quantize import quantize_bundle
from model.options import FAILED, OK, Parser, read_settings, run
from model.settings import Count, Natural, Settings, setting
from serving.engine import Engine, EngineConfig

VARIANTS = ("fp32", "int8 row", "int8 static")
LOSS_ROWS = 200


class AgreementSettings(Settings):
    """On how much the variants are compared."""

    sentences: Count = setting(400, "Held-out sentences for the agreement.")
    max_rows: Natural = setting(500, "Rows per test set and direction; 0 means all.")
    max_tokens: Count = setting(96, "Most that is generated from a sentence.", "tokens")


def make_variants(fp32: Path, corpus: Path, out: Path) -> dict[str, Path]:
    """The fp32 bundle and both int8 ones made from it, with the default number of calibration rows."""
    paths = {"fp32": fp32}
    for scale in ("row", "static"):
        path = out / f"int8-{scale}"
        quantize_bundle(fp32, corpus, path, "int8", QuantizationConfig(activation_scale=scale))
        paths[f"int8 {scale}"] = path
    return paths


def measure(paths: dict[str, Path], corpus: Path, given: AgreementSettings) -> list[dict[str, Any]]:
    """One record per variant."""
    texts = list(islice(read_split(corpus, "heldout"), given.sentences))
    records: list[dict[str, Any]] = []
    reference: list[list[int]] = []
    for name, path in paths.items():
        bundle = Bundle.load(path)
        with Engine(bundle, EngineConfig(provider="cpu")) as engine:
            prompts = held_out_prompts(engine, texts)
            batched = agreement(engine, prompts, given.max_tokens)
            outputs = batched.pop("outputs")
        reference = reference or outputs
        with tempfile.TemporaryDirectory() as folder:
            config = EvaluationConfig(max_rows=given.max_rows, samples=0, loss_rows=LOSS_ROWS)
            evaluation = evaluate_bundle(path, corpus, folder, config)
        records.append(
            {
                "variant": name,
                "bytes": bundle.bytes,
                "alone_against_batched": {**batched, "differing": batched["differing"][:20]},
                "against_fp32": same(reference, outputs),
                "scores": [
                    score.model_dump(include={"test_set", "direction", "segments", "bleu", "chrf"})
                    for score in evaluation.scores
                ],
                "loss": evaluation.loss,
                "tokens_per_second": evaluation.tokens_per_second,
            }
        )
        print(f"  {name}: {batched['identical']} of {batched['requests']} identical in a batch", file=sys.stderr)
    return records


def agreement(engine: Engine, prompts: Sequence[list[int]], max_tokens: int = 64) -> dict[str, Any]:
    """Run each prompt greedily alone and then all together, in as many slots as the engine has.

    The engine must have nothing else to do meanwhile: "alone" would not be.

    Returns:
        ``requests``; ``identical``, how many got the same tokens; ``tokens`` generated alone; ``same_tokens``, how many
        of them came before the first difference; ``differing``, the indices of prompts with a difference; ``outputs``,
        the token ids that each prompt got in company.
    """
    requests = [bounded_request(engine, ids, max_tokens) for ids in prompts]
    alone = [engine.generate([request])[0].token_ids for request in requests]
    together = [result.token_ids for result in engine.generate(requests)]
    same = [common(a, b) for a, b in zip(alone, together, strict=True)]
    differing = [i for i, (a, b) in enumerate(zip(alone, together, strict=True)) if a != b]
    return {
        "requests": len(requests),
        "identical": len(requests) - len(differing),
        "tokens": sum(map(len, alone)),
        "same_tokens": sum(same),
        "differing": differing,
        "outputs": together,
    }


def common(left: list[int], right: list[int]) -> int:
    """Length of the beginning that two lists share."""
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return i
    return min(len(left), len(right))


def held_out_prompts(engine: Engine, rows: Sequence[dict[str, str]]) -> list[list[int]]:
    """Prompts of held-out rows that fit the network, directions alternating."""
    bundle = engine.bundle
    prompts = []
    for i, row in enumerate(rows):
        if bundle.task == "text":
            ids = engine.prompt(row["text"])[: engine.limits.max_prompt_tokens // 4]
        else:
            source, target = bundle.languages if i % 2 == 0 else bundle.languages[::-1]
            ids = engine.prompt(row[source], target=target)
        if len(ids) <= engine.limits.max_prompt_tokens:
            prompts.append(ids)
    return prompts


def same(reference: list[list[int]], outputs: list[list[int]]) -> dict[str, float]:
    """Shares of outputs that are identical, and of the reference's tokens before the first difference."""
    before = sum(common(wanted, found) for wanted, found in zip(reference, outputs, strict=True))
    identical = sum(wanted == found for wanted, found in zip(reference, outputs, strict=True))
    total = sum(map(len, reference))
    return {
        "identical": round(identical / len(reference), 4),
        "tokens": round(before / total, 4) if total else 1.0,
    }


def agreement_table(result: dict[str, Any]) -> str:
    """Markdown: one line per variant; the chrF of a test set's two directions stand together."""
    records = result["variants"]
    scores = [[Score.model_validate(score) for score in record["scores"]] for record in records]
    names = list(dict.fromkeys(score.test_set for score in scores[0]))
    head = ["variant", "MB", "identical alone and batched", "outputs as fp32's", "tokens as fp32's"]
    head += ["loss, nats/token", *[f"chrF {name}" for name in names], "tokens/s, batch 1 / 32"]
    rows = []
    for record, own_scores in zip(records, scores, strict=True):
        batched, own, speed = record["alone_against_batched"], record["against_fp32"], record["tokens_per_second"]
        chrf = [[f"{score.chrf:.2f}" for score in own_scores if score.test_set == name] for name in names]
        rows.append(
            [
                record["variant"],
                f"{record['bytes'] / 1e6:.1f}",
                f"{batched['identical']} of {batched['requests']}",
                f"{own['identical']:.1%}",
                f"{own['tokens']:.1%}",
                f"{record['loss']:.4f}",
                *[" / ".join(pair) for pair in chrf],
                f"{speed['1']:,.0f} / {speed['32']:,.0f}",
            ]
        )
    machine = result["machine"]
    directions = " / ".join(dict.fromkeys(score.direction for score in scores[0])) or "text"
    return (
        f"{markdown(head, rows)}\n\n"
        f"Greedy, at most {result['max_tokens']} tokens; {records[0]['alone_against_batched']['requests']} held-out "
        f"sentences for the agreement, at most {result['test_rows']} rows per test set and direction ({directions}). "
        f"Tokens as fp32's: those before the first difference. {processor(machine)}, load "
        f"{machine['load_average']}, {result['date'][:10]}; {result['source']}."
    )


def artifacts(run: Path) -> tuple[Path, Path]:
    """The fp32 bundle and the corpus of a finished run.

    Raises:
        BenchmarkError: when the run has none.
    """
    found = [sorted(run.glob(f"artifacts/*/{place}")) for place in ("variant/bundle", "prepare-data/holdout")]
    if not all(found):
        raise BenchmarkError(f"{run} has no exported bundle or no corpus: give both, or a finished run")
    return found[0][-1], found[1][-1]


def parser() -> Parser:
    """What to compare, and on how much."""
    made = Parser("benchmarks.agreement", __doc__)
    made.add_argument("--run", type=Path, default=ROOT / "runs" / "latest", help="a finished run")
    made.add_argument("--bundle", type=Path, help="an fp32 bundle, instead of the run's")
    made.add_argument("--corpus", type=Path, help="its corpus, instead of the run's")
    made.add_argument("--out", type=Path, default=RESULTS / "agreement.json", help="where the result is kept")
    made.add_settings(AgreementSettings)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every variant; 1 where one gives other tokens in a batch than alone."""
    options = parser().parse_args(argv)
    given = read_settings(AgreementSettings, options)
    bundle, corpus = options.bundle, options.corpus
    if bundle is None or corpus is None:
        found = artifacts(options.run.resolve())
        bundle, corpus = bundle or found[0], corpus or found[1]
    with tempfile.TemporaryDirectory() as folder:
        variants = measure(make_variants(bundle, corpus, Path(folder)), corpus, given)
    result = {
        **heading("agreement"),
        "source": f"run {options.run.resolve().name}" if options.bundle is None else f"bundle {bundle.name}",
        "test_rows": given.max_rows,
        "max_tokens": given.max_tokens,
        "variants": variants,
    }
    keep(result, options.out, agreement_table(result))
    if any(record["alone_against_batched"]["differing"] for record in variants):
        print("a variant gives other tokens in a batch than alone", file=sys.stderr)
        return FAILED
    return OK


if __name__ == "__main__":
    sys.exit(run(main))

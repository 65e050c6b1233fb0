"""Whether neighbouring short sentences should share a prompt: chrF of both ways, by how long the two are together.

Rows that end like a sentence are joined in twos by a space, and each joined text is translated both ways: a sentence a
prompt, as serving does, and both in one. Both translations are held against the two references joined alike. Greedy,
and through the serving engine.

    python -m benchmarks.joined runs/latest/bundle test_ui.tsv test_docs.tsv
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import translations
from benchmarks.machine import RESULTS, heading, keep, markdown
from benchmarks.translations import Pairs
from evaluation.figures import processor
from evaluation.prompts import bounded_request
from evaluation.quality import corpus_scores
from model.options import OK, Parser, run
from model.text.pieces import space_between_sentences
from serving.engine import Engine, EngineConfig

# Most characters of the two sources together, in each class; the last has no bound.
LENGTHS = (40, 80, 160, 10**9)
_ENDS = (".", "!", "?", "…")


def joined_in_twos(pairs: Pairs) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Neighbours among the rows whose sides both end like a sentence: (sources, references) of each two."""
    whole = [pair for pair in pairs if all(side.rstrip().endswith(_ENDS) for side in pair)]
    twos = zip(whole[::2], whole[1::2], strict=False)
    return [((one[0], other[0]), (one[1], other[1])) for one, other in twos]


def compared(engine: Engine, source: str, target: str, pairs: Pairs) -> list[dict[str, Any]]:
    """One record for each class of length that has any: rows, and chrF apart and together."""
    limit, classes = engine.limits.max_prompt_tokens, dict[int, list[tuple[list[str], str, str]]]()
    for sources, references in joined_in_twos(pairs):
        text, reference = (
            space_between_sentences(language).join(each) for language, each in ((source, sources), (target, references))
        )
        if len(engine.prompt(text, target=target)) <= limit:  # what does not fit cannot share one
            most = next(most for most in LENGTHS if len(text) <= most)
            classes.setdefault(most, []).append((list(sources), text, reference))

    def translate(texts: Sequence[str]) -> list[str]:
        prompts = [engine.prompt(text, target=target) for text in texts]
        requests = [bounded_request(engine, ids, engine.limits.translation_tokens(len(ids))) for ids in prompts]
        return [result.text for result in engine.generate(requests)]

    records = []
    for most, rows in sorted(classes.items()):
        single = translate([sentence for sentences, _, _ in rows for sentence in sentences])
        both = zip(single[::2], single[1::2], strict=True)
        apart = [space_between_sentences(target).join(two) for two in both]
        together, expected = translate([text for _, text, _ in rows]), [reference for *_, reference in rows]
        scores = {
            way: corpus_scores(texts, expected)["chrf"] for way, texts in (("apart", apart), ("together", together))
        }
        records.append({"characters": most if most < LENGTHS[-1] else None, "rows": len(rows), **scores})
    return records


def measure(engine: Engine, tests: dict[str, Pairs]) -> list[dict[str, Any]]:
    """The records of each test set and direction."""
    return [
        {**way.place, **record}
        for way in translations.both_ways(engine.bundle, tests)
        for record in compared(engine, way.source, way.target, way.pairs)
    ]


def joined_table(result: dict[str, Any]) -> str:
    """Markdown: one line per record."""
    rows = [
        [
            f"{record['test_set']} {record['direction']}",
            f"≤ {record['characters']}" if record["characters"] else f"> {LENGTHS[-2]}",
            f"{record['rows']:,}",
            f"{record['apart']:.1f}",
            f"{record['together']:.1f}",
        ]
        for record in result["records"]
    ]
    head = ["", "characters of two", "twos", "chrF, a sentence a prompt", "chrF, both in one"]
    return (
        f"{markdown(head, rows)}\n\n{result['bundle']}, greedy. {processor(result['machine'])}, {result['date'][:10]}."
    )


def parser() -> Parser:
    """What to translate, with which model."""
    made = translations.parser("benchmarks.joined", __doc__, RESULTS / "joined.json")
    translations.add_tests(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and keep."""
    options = parser().parse_args(argv)
    bundle = translations.load(options.bundle)
    tests = {path.stem: translations.read(path, bundle.languages) for path in options.tests}
    with Engine(bundle, EngineConfig(provider="cpu")) as engine:
        records = measure(engine, tests)
    result = {**heading("joined"), "bundle": translations.named(bundle), "records": records}
    keep(result, options.out, joined_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))

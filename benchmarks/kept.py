"""What of a text that is no language its translation keeps, and whether it uses the terms of a glossary.

Of each test set the rows that have a span (a placeholder, an address, a tag, ...) are translated both ways, as they are
and by the attempts of model.text.spans. A span is kept that the translation has as often as the source. The same with a
glossary: the rows whose source has a term and whose reference has its translation. chrF is over these rows. Greedy, and
through the serving engine.

    python -m benchmarks.kept runs/latest/bundle test_ui.tsv test_docs.tsv
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import translations
from benchmarks.machine import RESULTS, ROOT, heading, keep, markdown
from benchmarks.translations import Pairs
from evaluation.figures import processor
from evaluation.prompts import bounded_request, cut
from evaluation.quality import corpus_scores
from model.options import OK, Parser, run
from model.text.glossary import Glossary
from model.text.spans import Attempt, Span, attempts, find, kept, translated
from serving.engine import Engine, EngineConfig

TERMS = ROOT / "benchmarks" / "terms.tsv"  # the languages' codes, and then terms


@dataclass(frozen=True)
class Row:
    """A source, its reference, and the terms of a glossary that the translation is to use."""

    source: str
    reference: str
    glossary: Glossary | None = None
    terms: list[Span] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        """How much there is to keep."""
        return len(self.terms) if self.glossary else kept(self.source, "")[1]

    def kept(self, text: str) -> int:
        """How much of it a translation has."""
        return self.glossary.count_used(self.terms, text) if self.glossary else kept(self.source, text)[0]

    def attempts(self, tried: list[int]) -> Iterator[Attempt]:
        """Its attempts; ``tried`` counts the first ones, the second ones, ..."""
        for number, attempt in enumerate((self.glossary.attempts if self.glossary else attempts)(self.source)):
            tried[number] += 1
            yield attempt


def rows_with(pairs: Pairs, glossary: Glossary | None) -> list[Row]:
    """The rows that have anything to keep; with a glossary those whose reference uses its terms."""
    if glossary is None:
        return [Row(source, reference) for source, reference in pairs if find(source)]
    rows = [Row(source, reference, glossary, glossary.find(source)) for source, reference in pairs]
    return [row for row in rows if row.terms and row.kept(row.reference) == row.wanted]


def compared(engine: Engine, target: str, rows: Sequence[Row]) -> dict[str, Any]:
    """What is kept, and chrF, of the plain translation and of that by attempts."""

    def translate(texts: Sequence[str]) -> list[str]:
        prompts, _ = cut(engine, [engine.prompt(text, target=target) for text in texts])
        requests = [bounded_request(engine, ids, 2 * len(ids) + 16) for ids in prompts]
        return [result.text for result in engine.generate(requests)] if requests else []

    tried = [0] * 3
    plain = translate([row.source for row in rows])
    outputs = {"before": plain, "after": translated([row.attempts(tried) for row in rows], translate)}
    return {
        "rows": len(rows),
        "wanted": sum(row.wanted for row in rows),
        "attempts": tried,
        **{
            when: {
                "kept": sum(row.kept(text) for row, text in zip(rows, texts, strict=True)),
                "chrf": corpus_scores(texts, [row.reference for row in rows])["chrf"],
            }
            for when, texts in outputs.items()
        },
    }


def measure(engine: Engine, tests: dict[str, Pairs], terms: Pairs) -> list[dict[str, Any]]:
    """One record for each kind, test set and direction that has a row."""
    records = []
    for kind in ("spans", "terms"):
        for way in translations.both_ways(engine.bundle, tests):
            own = translations.from_side(engine.bundle, way.source, terms)
            glossary = Glossary(own, way.source, way.target) if kind == "terms" else None
            if rows := rows_with(way.pairs, glossary):
                records.append({"kind": kind, **way.place, **compared(engine, way.target, rows)})
    return records


def kept_table(result: dict[str, Any]) -> str:
    """Markdown: one line per record."""
    rows = []
    for record in result["records"]:
        before, after = record["before"], record["after"]
        shares = [f"{one['kept'] / record['wanted']:.1%}" for one in (before, after)]
        rows.append(
            [
                f"{record['kind']}, {record['test_set']} {record['direction']}",
                f"{record['rows']:,}",
                f"{record['wanted']:,}",
                *shares,
                f"{before['chrf']:.1f}",
                f"{after['chrf']:.1f}",
                " / ".join(map(str, record["attempts"])),
            ]
        )
    head = [
        "",
        "rows",
        "spans or terms",
        "kept before",
        "kept",
        "chrF before",
        "chrF",
        "rows tried once / twice / thrice",
    ]
    return (
        f"{markdown(head, rows)}\n\n{result['bundle']}, greedy; {result['terms']} terms. "
        f"{processor(result['machine'])}, {result['date'][:10]}."
    )


def parser() -> Parser:
    """What to translate, with which model."""
    made = translations.parser("benchmarks.kept", __doc__, RESULTS / "kept.json")
    translations.add_tests(made)
    made.add_argument("--terms", type=Path, default=TERMS, help="the glossary, a file of the same kind")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and keep."""
    options = parser().parse_args(argv)
    bundle = translations.load(options.bundle)
    terms = translations.read(options.terms, bundle.languages)
    tests = {path.stem: translations.read(path, bundle.languages) for path in options.tests}
    with Engine(bundle, EngineConfig(provider="cpu")) as engine:
        records = measure(engine, tests, terms)
    result = {**heading("kept"), "bundle": translations.named(bundle), "terms": len(terms), "records": records}
    keep(result, options.out, kept_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))

"""What a bundle of the demo makes of the first things that people type, beside what is right (first_words.tsv).

python -m tools.first_words runs/latest/bundle
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from model.bundle import Bundle
from model.options import FAILED, OK, Parser, run
from serving.engine import Engine, EngineConfig, GenerationRequest

SENTENCES = Path(__file__).with_suffix(".tsv")
SHARE = 0.9  # of the sentences that must come back right


def parser() -> Parser:
    """The bundle."""
    made = Parser("tools.first_words", __doc__)
    made.add_argument("bundle", nargs="?", default="runs/latest/bundle", help="folder of the bundle (%(default)s)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print every sentence and its translation; the exit status is 1 where too many are wrong."""
    lines = [line.split("\t") for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    engine = Engine(Bundle.load(parser().parse_args(argv).bundle), EngineConfig(threads=1))
    engine.start()
    try:
        targets = ["en" if re.search("[а-яё]", source) else "ru" for source, _ in lines]
        prompts = [engine.prompt(source, target=to) for (source, _), to in zip(lines, targets, strict=True)]
        answers = engine.generate([GenerationRequest(prompt) for prompt in prompts])
    finally:
        engine.close()
    right = 0
    for (source, accepted), answer in zip(lines, answers, strict=True):
        good = answer.text in accepted.split("|")
        right += good
        print(f"{'' if good else 'WRONG':<7}{source:<32}{answer.text}")
    print(f"{right} of {len(lines)} are right")
    return OK if right >= SHARE * len(lines) else FAILED


if __name__ == "__main__":
    sys.exit(run(main))

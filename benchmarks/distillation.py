"""What learning from a teacher is worth at equal total time: a network alone, and one that is taught, on one clock.

The network of a profile trains for a time on a prepared corpus. In the same time a larger one trains, translates the
corpus, and the network learns its translations in what is left. How many steps go into a time is told by short runs of
both networks; the schedule is fitted to them. All three are then measured as int8 bundles, through the serving engine.

    python -m benchmarks.distillation corpus tokenizer --seconds 3600 --teacher_share 0.4
    python -m benchmarks.distillation corpus tokenizer --seconds 3600 --set distillation.keep_original=0.5

What is done lies in ``--work``: a measurement that was stopped goes on with the same command.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from benchmarks.machine import ROOT, BenchmarkError, heading, keep, markdown
from benchmarks.networks import FIGURES, Networks
from benchmarks.options import profile_of, training_parser
from evaluation.distillation import teach
from evaluation.figures import processor
from model.bundle import Bundle
from model.config import Profile, to_dict
from model.corpus import read_card
from model.options import OK, Parser, read_settings, run
from model.settings import Natural, Settings, setting

NETWORKS = ("alone", "teacher", "taught")
Json = dict[str, Any]


class DistillationSettings(Settings):
    """How long, and how the time is divided."""

    seconds: float = setting(3600.0, "Time of each of the two ways.", "seconds", gt=0)
    teacher_share: Annotated[float, Field(gt=0, lt=1)] = setting(0.4, "Share of it in which the teacher is trained.")
    pace_steps: int = setting(60, "Steps of the short runs by which the number of steps in a time is told.", ge=4)
    seed: Natural = setting(0, "Seed of the weights and of the order of the data.")


class Measurement(Networks):
    """One measurement.

    Raises:
        BenchmarkError: where the folder holds those of another one.
    """

    def __init__(
        self, given: DistillationSettings, profile: Profile, corpus: Path, tokenizer: Path, work: Path
    ) -> None:
        if profile.distillation.teacher:
            raise BenchmarkError("the teacher's time counts, too: leave distillation.teacher out, one is trained here")
        training = profile.training.model_copy(update={"seed": given.seed})
        profile = profile.model_copy(update={"training": training})
        super().__init__(profile, corpus, tokenizer, work, {"given": to_dict(given)})
        self.given = given

    def run(self) -> Json:
        """All of it, or what is left to be done."""
        given, profile = self.given, self.profile
        larger, teachers = profile.teacher_network, given.seconds * given.teacher_share
        steps = given.pace_steps
        pace = self.pace("pace", profile.network, steps)
        slower = self.pace("pace-of-the-teacher", larger, steps)
        told = {"alone": self.train("alone", self.corpus, profile.network, given.seconds / pace)}
        told["teacher"] = self.train("teacher", self.corpus, larger, teachers / slower)
        bundle, export = self.bundle("teacher")
        lesson = teach(Bundle.load(bundle), self.corpus, self.work / "answers", profile.distillation)["distillation"]
        left = given.seconds - told["teacher"]["seconds"] - export - lesson["seconds"]
        if left < pace:
            raise BenchmarkError(
                f"of {given.seconds:.0f} s the teacher took {told['teacher']['seconds']:.0f} s to be trained and "
                f"{lesson['seconds']:.0f} s to translate, and none are left to learn from it: give more --seconds, a "
                "smaller --teacher_share, or a larger distillation.keep_original"
            )
        told["taught"] = self.train("taught", self.work / "answers", profile.network, left / pace)
        alone, taught = self.compared("alone", "taught")
        return {
            **heading("distillation"),
            "profile": profile.name,
            "given": to_dict(given),
            "rows": read_card(self.corpus)["counts"]["train"],
            "networks": {name: {figure: told[name][figure] for figure in FIGURES} for name in NETWORKS},
            "translating": {"export_seconds": export, **lesson},
            "scores": self.scores(*NETWORKS),
            "chrf": {"alone": alone.chrf, "taught": taught.chrf, "p": taught.p},
        }


def distillation_table(result: Json) -> str:
    """Markdown: where the time went, and a line for each test set and direction."""
    networks, translating, seconds = result["networks"], result["translating"], result["given"]["seconds"]
    rows = [
        [what, *(f"{networks[name][figure] / scale:{form}}" for name in NETWORKS)]
        for what, figure, scale, form in (
            ("million parameters", "parameters", 1e6, ".1f"),
            ("minutes of training", "seconds", 60, ".1f"),
            ("million tokens", "train_tokens", 1e6, ".2f"),
        )
    ]
    for entry in result["scores"]:
        rows.append([entry["place"], *(f"{entry[name][0]:.1f} / {entry[name][1]:.1f}" for name in NETWORKS)])
    chrf, beams = result["chrf"], translating["beams"]
    caption = (
        f"BLEU / chrF, greedy, int8. {seconds / 60:.0f} minutes each way: the network alone, or the teacher, its "
        f"translations of {result['rows']:,} pairs both ways ({translating['seconds'] / 60:.1f} minutes, "
        f"{f'{beams} beams' if beams > 1 else 'greedy'}, {translating['keep_original']:.0%} kept as they were), and "
        f"the network that learned them. All rows together: chrF {chrf['alone']:.2f} alone, {chrf['taught']:.2f} "
        f"taught, p = {chrf['p']:.3f}. Profile `{result['profile']}`, one seed. {processor(result['machine'])}, "
        f"{result['date'][:10]}."
    )
    return f"{markdown(['', 'alone', 'teacher', 'taught'], rows)}\n\n{caption}"


def parser() -> Parser:
    """Where from, and how long."""
    made = training_parser("distillation", __doc__)
    made.add_settings(DistillationSettings)
    made.add_argument("--work", type=Path, default=ROOT / "build" / "distillation", help="default: %(default)s")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, keep and show."""
    options = parser().parse_args(argv)
    given, profile = read_settings(DistillationSettings, options), profile_of(options)
    os.environ["PROMETHEUS_TRACKING"] = "off"
    result = Measurement(given, profile, options.corpus, options.tokenizer, options.work).run()
    keep(result, options.out, distillation_table(result))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))

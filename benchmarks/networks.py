"""Networks that a measurement trains and holds against each other: their parts lie in a folder as they are done.

A measurement that was stopped goes on with the same command.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import BenchmarkError
from evaluation.making import make_bundle
from evaluation.paired import Measured, Rows, compared, translated
from evaluation.results import Evaluation
from evaluation.variant import measure_bundle
from model.config import NetworkConfig, Profile, QuantizationConfig, TrainingConfig, to_dict
from model.corpus import read_card
from model.files import write_json
from model.tokenizer import load_tokenizer
from model.training.checkpoint import INFO
from model.training.loop import train
from model.training.tracking import CURVE

FIGURES = ("parameters", "steps", "seconds", "train_tokens", "valid_loss")  # taken from training.json

Json = dict[str, Any]


class Networks:
    """Networks of one corpus and one tokenizer, in a folder ``work``.

    Args:
        asked: what else makes the measurement what it is.

    Raises:
        BenchmarkError: where the folder holds those of another one.
    """

    def __init__(self, profile: Profile, corpus: Path, tokenizer: Path, work: Path, asked: Json) -> None:
        self.profile, self.corpus, self.tokenizer, self.work = profile, corpus, tokenizer, work
        text = [shard["sha256"] for shard in read_card(corpus)["shards"]]
        asked = {**asked, "profile": to_dict(profile), "corpus": text}
        asked["tokenizer"] = load_tokenizer(tokenizer).content_hash()
        if (known := work / "asked.json").exists() and json.loads(known.read_text("utf-8")) != asked:
            raise BenchmarkError(f"{work}: holds another measurement; give another --work, or remove it")
        write_json(known, asked)

    def train(
        self,
        name: str,
        corpus: Path,
        network: NetworkConfig,
        steps: float,
        init_from: str = "",
        holdout: Path | None = None,
        **changed: Any,
    ) -> Json:
        """What a training told, which is made now if it is not there; with changes to the profile's.

        Args:
            holdout: whose valid split tells the best weights, where it is not that of the whole corpus.
        """
        out = self.work / name
        if (out / INFO).exists():
            return json.loads((out / INFO).read_text("utf-8"))
        config: TrainingConfig = self.profile.training.model_copy(update={"steps": max(1, round(steps)), **changed})
        print(f"{name}: {config.steps:,} steps", file=sys.stderr)
        return train(corpus, holdout or self.corpus, self.tokenizer, out, network, config, init_from=init_from)

    def pace(self, name: str, network: NetworkConfig, steps: int) -> float:
        """Seconds of a step, with its share of a validation, by a short training."""
        self.train(name, self.corpus, network, steps, eval_every=steps // 2, warmup_steps=1, patience=0)
        lines = (self.work / name / CURVE).read_text("utf-8").splitlines()
        ends = {point["step"]: point["seconds"] for point in map(json.loads, lines) if "loss" in point}
        took = {step: ends[step] - ends[step - 1] for step in range(steps // 2 + 1, steps + 1)}
        validation = took.pop(steps // 2 + 1)  # it is between these two
        step = statistics.mean(took.values())
        return step + max(0.0, validation - step) / self.profile.training.eval_every

    def bundle(self, name: str) -> tuple[Path, float]:
        """The int8 bundle of a training, made now if it is not there, and the seconds that it took."""
        out, told = self.work / f"{name}-int8", self.work / f"{name}-int8.json"
        if not told.exists():
            began, shown = time.perf_counter(), self.profile.evaluation.model_copy(update={"examples": 0})
            made = (str(self.work / name), str(self.tokenizer), str(self.corpus), str(out))
            make_bundle(*made, "int8", QuantizationConfig(), shown)
            write_json(told, {"seconds": round(time.perf_counter() - began, 1)})
        return out, json.loads(told.read_text("utf-8"))["seconds"]

    def measured(self, name: str) -> Evaluation:
        """The int8 bundle's figures through the serving engine, greedy."""
        out = self.work / f"{name}-scores"
        if not (out / "evaluation.json").exists():
            config = self.profile.evaluation.model_copy(update={"varied_rows": 0, "beams": 1})
            measure_bundle(str(self.bundle(name)[0]), str(self.corpus), str(out), config)
        return Evaluation.read(str(out))

    def scores(self, *names: str) -> list[Json]:
        """BLEU and chrF of networks, a record for each test set and direction."""
        return [
            {
                "place": f"{scores[0].test_set} {scores[0].direction}, {scores[0].segments:,} rows",
                **{name: [score.bleu, score.chrf] for name, score in zip(names, scores, strict=True)},
            }
            for scores in zip(*(self.measured(name).scores for name in names), strict=True)
        ]

    def compared(self, *names: str, test_set: str = "") -> list[Measured]:
        """chrF of all rows together, or of those of a test set; against the first, the chance of such a difference."""
        found = []
        for name in names:
            self.measured(name)
            places = translated(self.corpus, self.work / f"{name}-scores" / "hypotheses")
            chosen = [rows for place, rows in places.items() if place.startswith(f"{test_set}/" if test_set else "")]
            joined = (tuple(row for rows in chosen for row in getattr(rows, part)) for part in Rows._fields)
            found.append(Rows(*joined))
        return compared(found)

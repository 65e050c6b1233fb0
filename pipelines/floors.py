"""The chrF floors of a profile, fitted to one run: what can be reached is kept, what cannot is refused or left out.

A profile serves many runs. Its own floors hold for its own languages, and those on held-out rows of its own text for
that text; any other run leaves them out and says so, as the gate does with floors on test sets that it is not given.
What is asked of this very run is never left out. Where no floor holds, a copy of the source and a loss without context
are refused all the same (evaluation/gate.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from model.config import Profile
from model.corpus.files import stem


def fit_floors(
    profile: Profile, asked: Mapping[str, Any], corpus: Sequence[str], tests: Sequence[str]
) -> tuple[Profile, list[str], list[str]]:
    """The profile with the floors that this run can reach, a sentence on each one left out, and the problems.

    Args:
        profile: The settings, with what was asked of this run.
        asked: What was asked of this run, as sections of settings.
        corpus: Sources of text; a folder or a data set may bring a test set of its own.
        tests: Test files.
    """
    own = "min_chrf" not in asked.get("gate", {})
    other_languages = "languages" in asked.get("corpus", {})
    spoken = ", ".join(profile.corpus.languages)
    directions = [f"{source}-{target}" for source, target in permutations(profile.corpus.languages, 2)]
    open_ended = any("://" in source or os.path.isdir(source) for source in corpus)
    test_sets = ["heldout", *map(stem, tests)]
    kept: dict[str, float] = {}
    left_out: list[str] = []
    problems: list[str] = []
    for place, floor in profile.gate.min_chrf.items():
        test_set, _, direction = place.rpartition("/")
        if profile.corpus.kind == "text":
            problems.append(
                f"gate.min_chrf: running text has no translation to score, so {place} cannot be measured; set "
                "SET='gate.min_chrf={}' and bound the loss instead, SET=gate.max_loss=2.2"
            )
        elif not test_set or not direction:
            problems.append(f"gate.min_chrf: {place!r} is not 'test set/direction', as in 'heldout/{directions[0]}'")
        elif direction not in directions and own and other_languages:
            left_out.append(f"floor {place} of profile {profile.name} is left out: this run is in {spoken}")
        elif test_set == "heldout" and own and corpus and profile.corpus.sources:
            left_out.append(f"floor {place} of profile {profile.name} is left out: it is for the profile's own text")
        elif direction not in directions:
            problems.append(
                f"gate.min_chrf: {place} cannot be measured, for corpus.languages is [{spoken}] and its "
                f"directions are {' and '.join(directions)}"
            )
        elif test_set not in test_sets and not own and not open_ended:
            problems.append(
                f"gate.min_chrf: {place} cannot be measured, for the test sets of this run are {', '.join(test_sets)}; "
                "give the file, TEST=..., or leave the floor out"
            )
        else:
            kept[place] = floor
    gate = profile.gate.model_copy(update={"min_chrf": kept})
    return profile.model_copy(update={"gate": gate}), left_out, problems

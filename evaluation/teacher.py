"""Who teaches: a bundle that is there, or one of a larger network that the run itself has trained before.

What a bundle is asked for is text, and what it tells is text: so a teacher may have a tokenizer, a size and an age of
its own, as long as it translates between the languages of the corpus. Nothing here imports the engine: what is wrong of
a teacher is told before the text is prepared.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from model.bundle import Bundle
from model.config import CorpusConfig, DistillationConfig
from model.corpus.files import display
from model.errors import ProjectError
from model.store.fetching import fetched

GIVEN, TRAINED, NONE = "given", "trained", "none"
PRECISION = {"cpu": "int8", "gpu": "fp16"}  # in which a machine translates fastest


class TeacherError(ProjectError, ValueError):
    """A bundle that cannot teach; the message says why, and what would."""


def kind_of(teacher: Mapping[str, Any]) -> str:
    """GIVEN where a bundle is named, TRAINED where the network of one is, which the run trains; else NONE."""
    return GIVEN if teacher.get("bundle") else TRAINED if teacher.get("network") else NONE


def check(bundle: Bundle, languages: Sequence[str], beams: int, place: str) -> None:
    """Refuse a bundle that cannot translate a corpus of these languages, in as many beams.

    Raises:
        TeacherError: naming what is in the way.
    """
    if bundle.task != "translation":
        raise TeacherError(f"{place}: goes on with running text, and a teacher translates; give a bundle that does")
    if sorted(bundle.languages) != sorted(languages):
        raise TeacherError(
            f"{place}: translates between {' and '.join(bundle.languages)}, and the text is in "
            f"{' and '.join(languages)}; give a teacher of its languages"
        )
    if beams > 1 and bundle.family == "decoder":
        raise TeacherError(f"{place}: a decoder takes no beams; set distillation.beams=1, or give a seq2seq teacher")


def stamped(teacher: Mapping[str, Any], compiled: str, corpus: CorpusConfig, config: DistillationConfig) -> str:
    """``sha256@place`` of a bundle that is given and can teach; empty for any other teacher, and for none.

    Args:
        teacher: the pipeline's parameter of that name (pipelines/parameters.py).
        compiled: the kind of teacher that the pipeline was compiled for; :data:`NONE` for no teacher.
        corpus: of the text that it is to translate.

    Raises:
        TeacherError: where the pipeline was compiled for another kind, or the bundle cannot teach.
        BundleError, StoreError: where there is none.
    """
    if (asked := kind_of(teacher)) != compiled:
        raise TeacherError(
            f"the teacher of this run is {asked}, and the pipeline was compiled for {compiled}: compile it with the "
            "settings of section distillation that it is to run with"
        )
    if asked != GIVEN:
        return ""
    place = str(teacher["bundle"])
    with fetched(place) as bundle:
        check(bundle, corpus.languages, config.beams, display(place))
        return f"{bundle.identity['sha256']}@{place}"


@contextlib.contextmanager
def opened(teacher: str, bundle: str = "") -> Iterator[tuple[Bundle, str]]:
    """The teacher, for as long as the body runs, and what it is called.

    Args:
        teacher: what :func:`stamped` told, or a place alone; empty for one that the run has trained.
        bundle: folder of the bundle of that.

    Raises:
        TeacherError: where another bundle lies there than when the run began.
    """
    if not teacher:
        yield Bundle.load(bundle), "trained in this run"
        return
    found = re.fullmatch(r"(?:([0-9a-f]{64})@)?(.*)", teacher, re.S)
    assert found
    expected, place = found[1], found[2]
    with fetched(place) as there:
        if expected and there.identity["sha256"] != expected:
            raise TeacherError(f"{display(place)}: is another bundle than when the run began; begin another run")
        yield there, there.identity["run_id"] or display(place)

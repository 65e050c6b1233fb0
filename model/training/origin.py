"""Weights to begin with: those that another training has left, for new text, another domain or a longer schedule.

They come with their tokenizer: a network knows the ids of one alone. An origin is a training folder
(model/training/checkpoint.py), here or at an address, the folder of a run, or the bundle in that. A bundle's own
weights are packed for serving, mostly as int8, and cannot be read back exactly: its run's training folder is taken.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model.config import NetworkConfig, to_dict
from model.corpus.files import display
from model.errors import reason
from model.files import locate, mounted
from model.settings import differing
from model.tokenizer import Tokenizer
from model.training.checkpoint import INFO, TOKENIZER, WEIGHTS, CheckpointError, load_checkpoint

if TYPE_CHECKING:
    from torch import nn

OF_A_RUN = "artifacts/*/train-model/checkpoint"
BUNDLE = "bundle.json"
WITHOUT_WEIGHTS = {"dropout", "max_positions"}  # settings of a network that may differ


class Origin(NamedTuple):
    """What a training begins with.

    Attributes:
        name: the run's, the folder's, or the address.
        sha256: of the file of weights, in hex.
        weights: float32 arrays by state-dict name.
        tokenizer: the content hash of their tokenizer.
        info: training.json.
    """

    name: str
    sha256: str
    weights: dict[str, np.ndarray]
    tokenizer: str
    info: dict[str, Any]

    def told(self) -> dict[str, Any]:
        """What training.json and a bundle's provenance say of it."""
        before = {name: self.info[name] for name in ("init_from",) if name in self.info}
        return {"name": self.name, "sha256": self.sha256, **before}

    def load_into(self, network: "nn.Module", tokenizer: Tokenizer) -> None:
        """Put the weights in the place of the network's, which are random.

        Raises:
            CheckpointError: where they know another tokenizer.
        """
        import torch

        if self.tokenizer != tokenizer.content_hash():
            raise CheckpointError(
                f"{self.name}: its weights know another tokenizer; give its own, which lies in its training folder"
            )
        network.load_state_dict({name: torch.from_numpy(array) for name, array in self.weights.items()})
        print(f"beginning with the weights of {self.name}, sha256 {self.sha256[:10]}", flush=True)


def find(place: Path) -> Path:
    """The folder of the run, or of the training, that a path means: its own, or that which a bundle lies in.

    Raises:
        CheckpointError: where there is no finished training in it.
    """
    bundled = (place / BUNDLE).is_file()
    folder = place.parent if bundled else place
    try:
        _training(folder)
    except CheckpointError as error:
        if not bundled:
            raise
        raise CheckpointError(
            f"{place}: the weights of a bundle are packed for serving, and cannot be read back exactly; give the "
            f"folder of the run, or of the training, that it was made in ({error})"
        ) from None
    return folder


def stamped(place: str, network: NetworkConfig) -> str:
    """``sha256@place`` of an origin that fits the network; empty for none.

    Raises:
        CheckpointError: where it cannot be read, or its network is another one.
    """
    return f"{open_origin(place, network).sha256}@{place}" if place else ""


def open_origin(origin: str, network: NetworkConfig) -> Origin:
    """Read an origin: a place, or ``sha256@place`` of what has to be there.

    Raises:
        CheckpointError: where it cannot be read, is not what it was, or its network is another one.
    """
    expected, place = _parted(origin)
    with _fetched(place) as folder:
        weights, info = load_checkpoint(folder)
    hashes = info.get("sha256", {})
    if not {"weights", "tokenizer"} <= hashes.keys():
        raise CheckpointError(f"{place}: was trained by an earlier release, which did not keep its tokenizer beside it")
    if expected and hashes["weights"] != expected:
        raise CheckpointError(f"{place}: has other weights than when the run began; begin another run")
    check(info, network, place)
    name = display(place) if "://" in place else Path(place).resolve().name
    return Origin(name, hashes["weights"], weights, hashes["tokenizer"], info)


def check(info: dict[str, Any], network: NetworkConfig, place: str) -> None:
    """Refuse an origin whose weights are of another network.

    Raises:
        CheckpointError: naming every setting that differs.
    """
    theirs, ours = info["network"], to_dict(network)
    names = dict.fromkeys(name.partition(".")[0] for name in differing(theirs, ours))
    if other := [name for name in names if name not in WITHOUT_WEIGHTS]:
        told = ", ".join(f"network.{name} is {theirs.get(name)} there and {ours.get(name)} here" for name in other)
        raise CheckpointError(f"{place}: its weights are of another network: {told}")


@contextlib.contextmanager
def tokenizer_of(origin: str) -> Iterator[Path | None]:
    """The folder of an origin's tokenizer, for as long as the body runs; None for no origin."""
    if not origin:
        yield None
        return
    with _fetched(_parted(origin)[1]) as folder:
        yield folder / TOKENIZER


def read_info(place: Path) -> dict[str, Any]:
    """The training.json of an origin that is a folder."""
    return load_checkpoint(_training(place))[1]


def _parted(origin: str) -> tuple[str, str]:
    found = re.fullmatch(r"(?:([0-9a-f]{64})@)?(.*)", origin, re.S)
    assert found
    return found[1] or "", found[2]


def _training(folder: Path) -> Path:
    """The training folder that a folder is, or has in it."""
    found = [folder / INFO, *sorted(folder.glob(f"{OF_A_RUN}/{INFO}"))]
    if there := [path for path in found if path.is_file()]:
        return there[0].parent
    raise CheckpointError(
        f"{folder}: no training has ended there; give the folder of a run that has trained, its bundle, or a folder "
        "made by python -m model.training"
    )


@contextlib.contextmanager
def _fetched(place: str) -> Iterator[Path]:
    """A training folder on this machine; what is at an address is there for as long as the body runs."""
    place = mounted(place)
    if "://" not in place:
        yield _training(Path(place))
        return
    with tempfile.TemporaryDirectory(prefix="origin-") as scratch:
        folder = Path(scratch)
        (folder / TOKENIZER).mkdir()
        try:
            store, root = locate(place.rstrip("/"))
            for name in (INFO, WEIGHTS):
                store.get_file(f"{root}/{name}", str(folder / name))
            for path in store.ls(f"{root}/{TOKENIZER}", detail=False):
                store.get_file(path, str(folder / TOKENIZER / path.rpartition("/")[2]))
        except Exception as error:  # fsspec's file systems have no common base class for their errors
            raise CheckpointError(
                f"{display(place)}: no training folder can be read there ({reason(error)}); give the address of the "
                f"folder that holds {INFO}, {WEIGHTS} and {TOKENIZER}/"
            ) from None
        yield folder

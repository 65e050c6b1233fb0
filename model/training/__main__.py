"""Train a checkpoint from the command line.

python -m model.training CORPUS TOKENIZER --out CHECKPOINT --network preset=prometheus-8m --training steps=2000
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import yaml

from model.config import NetworkConfig, TrainingConfig, from_dict
from model.training.loop import train


def settings(pairs: list[str]) -> dict[str, Any]:
    """``["a=1", "b=x"]`` -> ``{"a": 1, "b": "x"}``, values read as YAML."""
    return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.training", description=__doc__.splitlines()[0])
    parser.add_argument("corpus", help="folder made by python -m model.corpus")
    parser.add_argument("tokenizer", help="folder made by python -m model.tokenizer")
    parser.add_argument("--out", required=True, help="folder of the checkpoint; an interrupted run in it is resumed")
    parser.add_argument(
        "--network", nargs="*", default=[], metavar="KEY=VALUE", help="network settings, preset=NAME too"
    )
    parser.add_argument("--training", nargs="*", default=[], metavar="KEY=VALUE", help="training settings")
    args = parser.parse_args()
    network = from_dict(NetworkConfig, settings(args.network), "network")
    config = from_dict(TrainingConfig, settings(args.training), "training")
    print(json.dumps(train(args.corpus, args.tokenizer, args.out, network, config), indent=1))


if __name__ == "__main__":
    main()

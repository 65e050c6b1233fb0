"""Train a checkpoint from the command line.

python -m model.training CORPUS TOKENIZER --out CHECKPOINT --preset prometheus-8m --steps 2000
"""

import json
import sys
from collections.abc import Sequence

from model.config import NetworkConfig, TrainingConfig
from model.options import OK, Parser, read_settings, run
from model.training.loop import train


def parser() -> Parser:
    """Where from and where to, and every setting of the network and of its training."""
    made = Parser("model.training", __doc__)
    made.add_argument("corpus", help="folder made by python -m model.corpus")
    made.add_argument("tokenizer", help="folder made by python -m model.tokenizer")
    made.add_argument("--out", required=True, help="folder of the checkpoint; an interrupted run in it is resumed")
    made.add_settings(NetworkConfig, "network")
    made.add_settings(TrainingConfig, "training")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and print what the checkpoint says of itself."""
    options = parser().parse_args(argv)
    network, training = read_settings(NetworkConfig, options), read_settings(TrainingConfig, options)
    trained = train(options.corpus, options.tokenizer, options.out, network, training)
    print(json.dumps(trained, indent=1))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))

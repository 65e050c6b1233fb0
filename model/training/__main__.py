"""Train a checkpoint from the command line.

python -m model.training CORPUS TOKENIZER --out CHECKPOINT --preset prometheus-8m --steps 2000
torchrun --nproc_per_node=2 -m model.training CORPUS TOKENIZER --out CHECKPOINT --grad_accum_steps 2
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
    made.add_argument("--holdout", default="", help="folder with the valid split, where that is one of its own")
    made.add_argument(
        "--checkpoint_uri",
        default="",
        help="folder or address (s3://...) that keeps checkpoints too, so that another machine goes on from them",
    )
    made.add_argument(
        "--init_from",
        default="",
        help="weights to begin with: folder of a run, of its bundle or of a training, or s3://...",
    )
    made.add_argument("--out", required=True, help="folder of the checkpoint; an interrupted run in it is resumed")
    made.add_settings(NetworkConfig, "network")
    made.add_settings(TrainingConfig, "training")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and print what the checkpoint says of itself."""
    options = parser().parse_args(argv)
    network, training = read_settings(NetworkConfig, options), read_settings(TrainingConfig, options)
    text = (options.corpus, options.holdout or options.corpus, options.tokenizer)
    trained = train(*text, options.out, network, training, options.checkpoint_uri, options.init_from)
    if trained:  # one of several processes tells
        print(json.dumps(trained, indent=1))
    return OK


if __name__ == "__main__":
    sys.exit(run(main))

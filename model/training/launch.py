"""Training on the GPUs of one machine: a process for each, started as torchrun does.

    train_together(processes(2, config), corpus, holdout, tokenizer, out, network, config)

Each process reads the arguments of :func:`model.training.loop.train` from its standard input: an address may have a key
in it, which is not for the list of processes. When that input ends, because who started it is gone, it saves and ends.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from model.config import NetworkConfig, TrainingConfig, from_dict, to_dict
from model.options import OK, run
from model.training.checkpoint import INFO
from model.training.ending import end, heeding_signals
from model.training.loop import train
from model.training.ranks import RanksError

ENDED = 128 + signal.SIGTERM  # exit status of a process that was asked to end, and has saved
GRACE = 30.0  # seconds for the others to end by themselves when one has failed
LOOK = 0.1
WORK = "import sys; from model.training import launch; sys.exit(launch.work())"


def processes(gpus: int, config: TrainingConfig) -> int:
    """How many are worth starting: as many as GPUs are asked for and there, and as a step can be shared out among."""
    there = torch.cuda.device_count() if config.device != "cpu" and torch.cuda.is_available() else 0
    return next((n for n in range(min(gpus, there), 1, -1) if config.grad_accum_steps % n == 0), 1)


def train_together(
    count: int,
    corpus: str,
    holdout: str,
    tokenizer: str,
    out: str,
    network: NetworkConfig,
    config: TrainingConfig,
    checkpoint_uri: str = "",
    init_from: str = "",
) -> dict[str, Any]:
    """As :func:`model.training.loop.train`, in so many processes.

    Raises:
        RanksError: when one of them has failed; all have ended then, and what is wrong stands on standard error.
        Terminated, KeyboardInterrupt: when asked to end by a signal, after what there is has been saved.
    """
    if count == 1:
        return train(corpus, holdout, tokenizer, out, network, config, checkpoint_uri, init_from)
    given: dict[str, Any] = {"corpus": corpus, "holdout": holdout, "tokenizer": tokenizer, "out": out}
    given |= {"network": to_dict(network), "config": to_dict(config)}
    given |= {"checkpoint_uri": checkpoint_uri, "init_from": init_from}
    asked_by, deadline, port = 0, float("inf"), _free_port()
    with heeding_signals() as asked:
        running = [_start(number, count, port, json.dumps(given)) for number in range(count)]
        while any(process.poll() is None for process in running):
            if not asked_by and (asked_by := asked()):
                for process in running:
                    process.send_signal(signal.SIGTERM)
            if any(process.returncode for process in running):
                deadline = min(deadline, time.monotonic() + GRACE)
            if time.monotonic() > deadline:  # a process that waits for another within NCCL hears no signal
                for process in running:
                    process.kill()
            time.sleep(LOOK)
    for process in running:
        process.communicate()  # which closes what it could read
    statuses = [process.returncode for process in running]
    if ENDED in statuses:
        end(asked_by or signal.SIGTERM, f"{count} processes were asked to end; the last step's state is kept")
    if any(statuses):
        raise RanksError(
            f"training in {count} processes has failed, with exit status {', '.join(map(str, statuses))}: what is "
            "wrong is told above by the one that does not wait for another"
        )
    return json.loads((Path(out) / INFO).read_text("utf-8"))


def _start(number: int, count: int, port: int, given: str) -> subprocess.Popen[str]:
    names = {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in names.items()}
    # In a session of its own: a terminal's Ctrl-C would ask it twice, and then it ends at once.
    process = subprocess.Popen(
        [sys.executable, "-c", WORK],
        cwd=Path.cwd(),
        env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(given + "\n")
    process.stdin.flush()
    return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def work() -> int:
    """Be one of the processes."""
    given = json.loads(sys.stdin.readline())
    network, config = from_dict(NetworkConfig, given.pop("network")), from_dict(TrainingConfig, given.pop("config"))

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    def trained() -> int:
        train(**given, network=network, config=config)
        return OK

    threading.Thread(target=watch, daemon=True).start()
    return run(trained)

"""Logs as JSON lines on standard output: one per request, never with prompt or generated text in it.

Where a person watches, only warnings and errors are written, as text.

Of KServe, uvicorn and gRPC their warnings and errors: KServe and uvicorn log about four lines per request between them,
which costs a fifth of the throughput of a small model and says less than ours.
"""

import json
import logging
import os
import select
import sys
import time
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

import orjson

from serving.engine import GenerationResult, TokenEvent

requests = logging.getLogger("serving.requests")
# gRPC's own name, which is not public, for a client that has left before it took its answer.
GONE = "ExecuteBatchError"


def configure(as_text: bool = False) -> None:
    """Send all logging through one handler and silence the per-request chatter of KServe and uvicorn.

    Call it before ModelServer is made: the SDK leaves loggers alone that already have a handler.
    """
    handler = Lines(sys.stdout)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s") if as_text else JsonFormatter())
    handler.addFilter(worth_a_line)
    for name in ("", "kserve"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's choice
    for name in ("serving", "serving.requests", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING if as_text else logging.INFO)
    for name in ("uvicorn.access", "kserve.trace"):
        logging.getLogger(name).disabled = True


def worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a log record is no client's leaving."""
    return not (isinstance(record.exc_info, tuple) and type(record.exc_info[1]).__name__ == GONE)


def request_line(
    protocol: str,
    route: str,
    status: int | str,
    seconds: float,
    outcomes: Sequence[GenerationResult | TokenEvent] = (),
    error: str = "",
) -> None:
    """Log one answered request.

    Args:
        outcomes: one of each generation: its result, or the last event of one that was left before its end.
        error: the kind of error that ended it, which a stream's status cannot tell.
    """
    line: dict[str, Any] = {"protocol": protocol, "route": route, "status": status, "seconds": round(seconds, 6)}
    if error:
        line["error"] = error
    if outcomes:
        unfinished = "error" if error else "cancelled"
        line["prompts"] = len(outcomes)
        line["prompt_tokens"] = sum([outcome.prompt_tokens for outcome in outcomes])
        line["generated_tokens"] = sum([outcome.generated_tokens for outcome in outcomes])
        reasons = [outcome.finish_reason or unfinished for outcome in outcomes]
        line["finish_reasons"] = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
        results = [outcome for outcome in outcomes if isinstance(outcome, GenerationResult)]
        if results:
            line["queue_seconds"] = round(max([result.queue_seconds for result in results]), 6)
            line["first_token_seconds"] = round(max([result.first_token_seconds for result in results]), 6)
    requests.info("request", extra={"fields": line})


class Lines(logging.StreamHandler):
    """Writes what is taken: a pipe that nobody drains would stop the whole server with its first full line.

    Lines that find no room are dropped and counted; the first that finds some again is preceded by their number.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.dropped = 0
        self._torn = False  # whether the last line lacks its end
        self._room = select.poll()
        self._room.register(stream.fileno(), select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or drop it."""
        try:
            if self.dropped and self._write(self._line(f"{self.dropped} log lines were dropped: nobody took them")):
                self.dropped = 0
            self.dropped += not self._write(self.format(record))
        except Exception:
            self.handleError(record)

    def _line(self, message: str) -> str:
        return self.format(logging.LogRecord("serving.logs", logging.WARNING, "", 0, message, None, None))

    def _write(self, line: str) -> bool:
        """Whether all of a line was taken. No more than ``PIPE_BUF`` bytes at once: so many never wait in a write."""
        data = ("\n" * self._torn + line + "\n").encode("utf-8", "replace")
        for at in range(0, len(data), select.PIPE_BUF):
            if not self._room.poll(0):
                self._torn = self._torn or at > 0
                return False
            os.write(self.stream.fileno(), data[at : at + select.PIPE_BUF])
        self._torn = False
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON: time, level, logger, message, further fields, and the stack trace if there is one."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line).decode()
        except TypeError:  # half a surrogate pair in a path, for example
            return json.dumps(line)

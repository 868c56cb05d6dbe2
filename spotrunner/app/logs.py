"""Logs of every program: one structlog set-up, JSON lines for machines, colours for a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

# Libraries below us that report at INFO what is our own business, or nobody's.
_QUIET = ("apscheduler", "botocore", "boto3", "s3transfer", "urllib3", "uvicorn.access", "alembic")

_SECRET = ("token", "secret", "password", "credential", "authorization")


def configure(
    stream: TextIO | None = None, *, level: int = logging.INFO, as_json: bool = False
) -> None:
    """For this process, once. `stream` defaults to standard error; `as_json` also on a terminal."""
    out = stream or sys.stderr
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if out.isatty() and not as_json
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
    )
    logging.basicConfig(stream=out, level=logging.WARNING, format="%(name)s: %(message)s")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A value whose name says that it is a secret never reaches the log."""
    for key in event:
        if any(word in key.lower() for word in _SECRET):
            event[key] = "[redacted]"
    return event

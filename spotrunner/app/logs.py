"""Logs of every program: one structlog set-up, JSON lines for machines, colours for a terminal."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from spotrunner.core.secret import masked

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
            _SECRETS,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
    )
    libraries = logging.StreamHandler(out)
    libraries.setFormatter(_WithoutSecrets("%(name)s: %(message)s"))
    logging.basicConfig(handlers=[libraries], level=logging.WARNING)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def redacting(secrets: Iterable[str]) -> None:
    """From now on no log of this process shows these, nor the pieces that would tell them: not in
    a value, not in the text of an exception, not from a library."""
    _SECRETS.add(secrets)


def without_core_dumps() -> None:
    """From now on this process leaves no copy of its memory, secrets and all, on a disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


class _Secrets:
    """A processor that masks what it was told. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self.masked: Callable[[str], str] = str

    def add(self, secrets: Iterable[str]) -> None:
        self._known |= frozenset(secrets)
        self.masked = masked(self._known)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        if self._known:
            for key in event:
                event[key] = self._clean(event[key])
        return event

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.masked(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Mapping):
            return {self._clean(key): self._clean(each) for key, each in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._clean(each) for each in value]
        # Whatever else there is, a renderer shows it by its repr.
        shown = repr(value)
        clean = self.masked(shown)
        return value if clean == shown else clean


_SECRETS = _Secrets()


class _WithoutSecrets(logging.Formatter):
    """For what libraries say by themselves."""

    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.masked(super().format(record))


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A value whose name says that it is a secret never reaches the log."""
    for key in event:
        if any(word in key.lower() for word in _SECRET):
            event[key] = "[redacted]"
    return event

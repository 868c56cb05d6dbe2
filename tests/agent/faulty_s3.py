"""S3 as moto plays it, behind a line that breaks where a test says so."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from typing_extensions import Self

from spotrunner.adapters.aws.session import Aws
from spotrunner.lab.endpoint.server import HttpServer, empty_moto

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGION = "us-east-1"

# What S3 answers in trouble: the status, its code, its text.
ANSWERS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "409": (409, "ConditionalRequestConflict", "The conditional request cannot succeed."),
    "412": (412, "PreconditionFailed", "At least one of the pre-conditions did not hold"),
    "skewed": (403, "RequestTimeTooSkewed", "The difference between the times is too large."),
}


@dataclass
class Fault:
    """The next `times` requests with this method whose path fits. Beside S3's own answers: `lost`
    is done and not answered, `cut` ends in the middle of the body that is on its way, `slow` takes
    its time."""

    kind: str
    method: str
    path: str
    times: int = 1


class FaultyS3:
    """A context manager; `url` is where it serves."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = HttpServer(self._serve)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._buckets = 0
        # How many requests have met what is scripted.
        self.met = 0
        self.url = self._server.url

    def bucket(self, aws: Aws) -> str:
        self._buckets += 1
        name = f"home-{self._buckets}"
        aws.s3(REGION).create_bucket(Bucket=name)
        return name

    def script(self, *faults: Fault) -> None:
        with self._lock:
            self._faults = list(faults)
            self.met = 0

    def _serve(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        fault = self._next(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        kind = fault.kind if fault is not None else ""
        if kind in ANSWERS:
            return _refused(kind, environ, start)
        if kind == "slow":
            threading.Event().wait(0.3)
        if kind == "cut" and environ["REQUEST_METHOD"] == "PUT":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
            raise ConnectionResetError("in the middle of what came")
        answer: Any = self._moto(environ, start)
        if kind == "lost":
            raise ConnectionAbortedError("the answer is lost")
        return _cut(b"".join(answer)) if kind == "cut" else answer

    def _next(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                fits = fault.method == method and fnmatch.fnmatchcase(path, fault.path)
                if fits and fault.times:
                    fault.times -= 1
                    self.met += 1
                    return fault
        return None

    def __enter__(self) -> Self:
        empty_moto()
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()


def _refused(kind: str, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    """Answered before the body was read to its end, as S3 does; the line is not used again."""
    status, code, text = ANSWERS[kind]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    while length > 0 and (block := environ["wsgi.input"].read(min(length, 1 << 20))):
        length -= len(block)
    body = f"<Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    start(f"{status} {code}", headers)
    return [body]


def _cut(body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    raise ConnectionResetError("in the middle of what goes")

"""S3 as moto plays it, behind a line that breaks where a test says so."""

from __future__ import annotations

import datetime as dt
import fnmatch
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.utils import format_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from typing_extensions import Self

from spotrunner.adapters.aws.clock import ServerClock
from spotrunner.adapters.aws.session import Aws
from spotrunner.lab.endpoint.server import HttpServer, Served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGION = "us-east-1"

# Shorter than a client waits for an answer before it asks again.
HELD_S = 8.0

SKEW = dt.timedelta(minutes=15)

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
    its time, `held` waits for `release`. `after` so many that fit and are answered."""

    kind: str
    method: str
    path: str
    times: int = 1
    after: int = 0


class FaultyS3(Served):
    """A context manager; `url` is where it serves, `calm_url` where nothing ever breaks. `ahead` is
    how far its time is ahead of this machine's."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        super().__init__(self._serve)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._buckets = 0
        # How many requests have met what is scripted.
        self.met = 0
        self._calm = HttpServer(lambda environ, start: self._moto(environ, self._dated(start)))
        self.calm_url = self._calm.url
        self.ahead = dt.timedelta()
        self._clock = ServerClock()
        self._released = threading.Event()

    def now(self) -> dt.datetime:
        return self._clock.now() + self.ahead

    def bucket(self, aws: Aws) -> str:
        self._buckets += 1
        name = f"home-{self._buckets}"
        aws.s3(REGION).create_bucket(Bucket=name)
        return name

    def script(self, *faults: Fault) -> None:
        with self._lock:
            self._faults = list(faults)
            self.met = 0
            self._released.set()
            self._released = threading.Event()

    def release(self) -> None:
        """What is held goes on."""
        self._released.set()

    def _serve(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start = self._dated(start)
        released = self._released
        fault = self._next(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        kind = fault.kind if fault is not None else ""
        if self._is_skewed(environ):
            kind = "skewed"
        if kind == "held":
            released.wait(HELD_S)
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

    def _is_skewed(self, environ: WSGIEnvironment) -> bool:
        """Signed a quarter of an hour from now, as S3 sees it."""
        signed = environ.get("HTTP_X_AMZ_DATE", "")
        if not signed:
            return False
        at = dt.datetime.strptime(f"{signed[:15]}+0000", "%Y%m%dT%H%M%S%z")
        return abs(self.now() - at) > SKEW

    def _next(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                fits = fnmatch.fnmatchcase(f"{method} {path}", f"{fault.method} {fault.path}")
                if fits and fault.after:
                    fault.after -= 1
                elif fits and fault.times:
                    fault.times -= 1
                    self.met += 1
                    return fault
        return None

    def _dated(self, start: StartResponse) -> StartResponse:
        def dated(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
        ) -> Callable[[bytes], object]:
            kept = [(name, value) for name, value in headers if name.lower() != "date"]
            date = format_datetime(self.now().replace(microsecond=0), usegmt=True)
            return start(status, [*kept, ("Date", date)], exc_info)

        return dated

    def __enter__(self) -> Self:
        self._calm.start()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
        super().__exit__(kind, error, traceback)
        self._calm.close()


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

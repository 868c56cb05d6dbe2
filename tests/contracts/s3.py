"""S3 as moto plays it, on loopback, with answers that can be lost on their way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from typing_extensions import Self

from spotrunner.adapters.aws.session import Aws
from spotrunner.lab.endpoint.server import HttpServer, empty_moto

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGION = "us-east-1"


class MotoServer:
    """A context manager; `url` is where it serves."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = HttpServer(self._serve)
        self._losses: list[str] = []
        self._lock = threading.Lock()
        self._names = itertools.count()
        self.url = self._server.url

    def lose_answers(self, method: str, times: int) -> None:
        """The next requests with this HTTP method have their effect, and nobody is told."""
        self._losses.extend([method] * times)

    def bucket(self, aws: Aws) -> str:
        """A new one, in REGION."""
        name = f"bucket-{next(self._names)}"
        aws.s3(REGION).create_bucket(Bucket=name)
        return name

    def _serve(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        answer: Any = self._moto(environ, start)
        with self._lock:
            lost = environ["REQUEST_METHOD"] in self._losses
            if lost:
                self._losses.remove(environ["REQUEST_METHOD"])
        if lost:
            raise ConnectionAbortedError("the answer is lost")
        body: Iterable[bytes] = answer
        return body

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

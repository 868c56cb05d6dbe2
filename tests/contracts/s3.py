"""S3 as moto plays it, on loopback, with answers that can be lost on their way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from spotrunner.adapters.aws.session import Aws
from spotrunner.lab.endpoint.server import Served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGION = "us-east-1"


class MotoServer(Served):
    """A context manager; `url` is where it serves."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        super().__init__(self._serve)
        self._losses: list[str] = []
        self._lock = threading.Lock()
        self._names = itertools.count()

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

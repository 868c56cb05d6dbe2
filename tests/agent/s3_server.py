"""S3 as moto plays it, on loopback: it counts what it is asked for, and fails as a test says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from spotrunner.lab.endpoint.server import Served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from mypy_boto3_s3 import S3Client

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_ERROR = (
    "<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test says</Message></Error>"
)
_STATUS = {
    "InternalError": "500 Internal Server Error",
    "SlowDown": "503 Slow Down",
    "AccessDenied": "403 Forbidden",
    "NoSuchKey": "404 Not Found",
    "InvalidObjectState": "403 Forbidden",
    "ExpiredToken": "400 Bad Request",
}
RESET = "reset"  # the connection breaks in the middle of the body


class S3Server(Served):
    """A context manager; `url` is where it serves. `fails` has the errors of the next requests of
    a key, by its path; `before` is called before each answer."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        super().__init__(self._serve)
        self._lock = threading.Lock()
        self.fails: dict[str, list[str]] = {}
        self.seen: Counter[tuple[str, str]] = Counter()
        self.before: Callable[[str, str], None] = lambda method, path: None

    @property
    def client(self) -> S3Client:
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        return client

    def put(self, bucket: str, files: dict[str, bytes]) -> None:
        client = self.client
        client.create_bucket(Bucket=bucket)
        for key, body in files.items():
            client.put_object(Bucket=bucket, Key=key, Body=body)
        client.close()
        self.seen.clear()

    def asked(self, method: str) -> dict[str, int]:
        """How often each object was asked for so."""
        return {path: n for (how, path), n in self.seen.items() if how == method and "." in path}

    def _serve(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._lock:
            self.seen[method, path] += 1
            fault = self.fails[path].pop(0) if self.fails.get(path) else None
        self.before(method, path)
        if fault in _STATUS:
            body = _ERROR.format(code=fault).encode()
            start(
                _STATUS[fault],
                [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))],
            )
            return [body]
        answer: Any = self._moto(environ, start)
        return _torn(answer) if fault == RESET else answer


def _torn(body: Iterable[bytes]) -> Iterator[bytes]:
    whole = b"".join(body)
    yield whole[: len(whole) // 2]
    raise ConnectionAbortedError("the rest is lost")

"""The one port: our EC2 and its neighbours, moto for the rest, all at lab time.

A request is routed by the service in its SigV4 credential scope, as AWS's own hosts would be.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from spotrunner.lab.endpoint import advisor, tables
from spotrunner.lab.endpoint.answers import (
    HttpAnswer,
    expired_key,
    json_answer,
    old_signature,
    refusal,
    unavailable,
    unknown_key,
    unsigned,
)
from spotrunner.lab.endpoint.call import Console, Disks, NoDisks
from spotrunner.lab.endpoint.ec2 import Awkwardness, Ec2
from spotrunner.lab.endpoint.object_faults import ObjectFaults
from spotrunner.lab.endpoint.paging import Pages
from spotrunner.lab.endpoint.scope import Scope, scope_of
from spotrunner.lab.gate import Gate
from spotrunner.lab.keys import ROLE_PREFIX, RoleKeys
from spotrunner.lab.locked import LockedWorld
from spotrunner.sim.faults import Lose
from spotrunner.sim.values import ApiError, LostAnswer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_TABLES = ("pricing", "servicequotas", "ssm")


class EndpointApp:
    """A WSGI application. Safe to serve from several threads. `control` answers `/lab/...`."""

    def __init__(
        self,
        *,
        world: LockedWorld,
        keys: RoleKeys,
        gate: Gate,
        console: Console,
        disks: Disks | None = None,
        awkwardness: Awkwardness,
        seed: int,
        control: WSGIApplication | None = None,
    ) -> None:
        self._world = world
        self._keys = keys
        self._gate = gate
        self.object_faults = ObjectFaults()
        self._control = control
        self._ec2 = Ec2(world, console, disks or NoDisks(), awkwardness, seed)
        self._table_pages = Pages(halves=awkwardness.halves)
        self._moto: WSGIApplication = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start = self._dated(start)
        if self._control is not None and environ["PATH_INFO"].startswith("/lab/"):
            return self._control(environ, start)
        if environ["PATH_INFO"] == advisor.PATH:
            return _send(start, self._ask_advisor(environ))
        scope = scope_of(environ)
        if scope is None:
            old = "AWSAccessKeyId=" in environ.get("QUERY_STRING", "")
            return _send(start, refusal("s3", old_signature() if old else unsigned()))
        refused = self._check_key(scope)
        if refused is not None:
            return _send(start, refusal(scope.service, refused))
        if not scope.presigned and not self._gate.lets_through(scope.access_key):
            return _send(start, refusal(scope.service, unavailable(scope.service)))
        if scope.service == "ec2":
            return _send(start, self._ask_ec2(scope, environ))
        if scope.service in _TABLES:
            return self._ask_tables(scope, environ, start)
        return self._ask_moto(scope, environ, start)

    def _ask_moto(
        self, scope: Scope, environ: WSGIEnvironment, start: StartResponse
    ) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        fault = self.object_faults.next(method, path) if scope.service == "s3" else None
        if fault is not None and fault.late_s:
            threading.Event().wait(fault.late_s)
        lose = fault.lose if fault is not None else None
        if lose is Lose.BEFORE:
            raise ConnectionAbortedError("the request is lost")
        answer = self._moto(environ, start)
        if lose is Lose.AFTER:
            for _ in answer:  # moto has done it; nobody is told
                pass
            raise ConnectionAbortedError("the answer is lost")
        return answer

    def _ask_ec2(self, scope: Scope, environ: WSGIEnvironment) -> HttpAnswer:
        try:
            return self._ec2.answer(scope.region, _body(environ))
        except LostAnswer:
            # The server closes the connection without a word.
            raise ConnectionAbortedError("the answer is lost") from None

    def _ask_advisor(self, environ: WSGIEnvironment) -> HttpAnswer:
        try:
            return advisor.answer(self._world, environ.get("HTTP_IF_NONE_MATCH"))
        except LostAnswer:
            raise ConnectionAbortedError("the answer is lost") from None

    def _ask_tables(
        self, scope: Scope, environ: WSGIEnvironment, start: StartResponse
    ) -> Iterable[bytes]:
        body = _body(environ)
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if scope.service == "ssm" and not tables.is_ours(operation, body):
            environ["wsgi.input"] = io.BytesIO(body)
            return self._moto(environ, start)
        try:
            answer = tables.answer(
                scope.service, operation, scope.region, body, self._world, self._table_pages
            )
        except ApiError as error:
            return _send(start, refusal(scope.service, error))
        return _send(start, json_answer(HTTPStatus.OK, answer))

    def _check_key(self, scope: Scope) -> ApiError | None:
        """Only role keys are checked: they are what has to be renewed in time."""
        if not scope.access_key.startswith(ROLE_PREFIX):
            return None
        key = self._keys.find(scope.access_key)
        if key is None or key.token != scope.session_token:
            return unknown_key(scope.service)
        return expired_key(scope.service) if key.expires_at <= self._world.now() else None

    def _dated(self, start: StartResponse) -> StartResponse:
        """Every answer carries lab time, also moto's."""

        def start_dated(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
        ) -> Callable[[bytes], object]:
            kept = [(name, value) for name, value in headers if name.lower() != "date"]
            date = format_datetime(self._world.now().replace(microsecond=0), usegmt=True)
            return start(status, [*kept, ("Date", date)], exc_info)

        return start_dated


def _body(environ: WSGIEnvironment) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


def _send(start: StartResponse, answer: HttpAnswer) -> Iterable[bytes]:
    status = HTTPStatus(answer.status)
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Server", "AmazonEC2"),
    ]
    if answer.etag is not None:
        headers.append(("ETag", answer.etag))
    start(f"{status.value} {status.phrase}", headers)
    return [answer.body]

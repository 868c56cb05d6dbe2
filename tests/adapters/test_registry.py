"""Passwords of the account's registries, from ECR as moto plays it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spotrunner.adapters.aws.registry import EcrRegistries
from spotrunner.adapters.aws.session import Aws
from spotrunner.ports import NotAuthorized
from tests.contracts.s3 import MotoServer


@pytest.fixture
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


def test_a_password_has_its_end_and_is_shown_nowhere(moto: MotoServer) -> None:
    aws = Aws(endpoint_url=moto.url)
    login = EcrRegistries(aws).login("eu-west-1")
    aws.close()
    assert login.user == "AWS"
    assert login.password
    assert login.expires_at.tzinfo is not None
    assert login.password not in repr(login)


class Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = b'{"__type": "AccessDeniedException", "message": "not authorized to perform"}'
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def test_a_role_that_may_not_is_told_what_to_grant() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        aws = Aws(endpoint_url=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(NotAuthorized, match=r"grant the instances' role ecr:GetAuthorization"):
            EcrRegistries(aws).login("eu-west-1")
        aws.close()
        server.shutdown()

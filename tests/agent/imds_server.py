"""A metadata service on loopback that answers what a test scripts."""

from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

INSTANCE_ACTION = "meta-data/spot/instance-action"
ATTEMPT = "meta-data/tags/instance/spotrunner:attempt"
DOCUMENT = "dynamic/instance-identity/document"
# AWS's own clients do not take a token whose answer lacks it
TTL = "X-aws-ec2-metadata-token-ttl-seconds"


@dataclass
class Script:
    """`items` by path below /latest/. `fails` answer their status; `hangs` never answer in time.
    `files` are served to anybody, with whatever query: an archive behind a presigned URL."""

    items: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)  # to addresses that begin with "put/"
    fails: dict[str, int] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    token: str = "token-1"
    tokens_given: int = 0
    seen: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Server(socketserver.ThreadingTCPServer):
    """Not HTTPServer: that looks its own name up, which may hang where there is no DNS."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up waiting is part of the test."""


class _Handler(http.server.BaseHTTPRequestHandler):
    # As the real one: a connection serves many requests, so a client may keep it.
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_PUT(self) -> None:
        path = self._meet()
        if path is None:
            return
        if path == "api/token" and self.headers.get(TTL):
            self.server.script.tokens_given += 1
            self._answer(200, self.server.script.token.encode(), {TTL: self.headers[TTL]})
        elif path.startswith("put/"):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.server.script.written[path.partition("?")[0]] = body
            self._answer(200)
        else:
            self._answer(400)

    def do_GET(self) -> None:
        path = self._meet()
        if path is None:
            return
        file = self.server.script.files.get(path.partition("?")[0])
        if file is not None:
            self._answer(200, file)
        elif self.headers.get_all("X-aws-ec2-metadata-token") != [self.server.script.token]:
            self._answer(401)
        else:
            found = self.server.script.items.get(path)
            self._answer(404 if found is None else 200, found or b"<html>404</html>")

    def _meet(self) -> str | None:
        """The path, noted; None where the script has failed the request already."""
        script, path = self.server.script, self.path.removeprefix("/latest/")
        tokens = tuple(self.headers.get_all("X-aws-ec2-metadata-token") or ())
        script.seen.append((self.command, path, tokens))
        if path in script.hangs:
            script.released.wait(10)
        if path in script.fails:
            self._answer(script.fails[path])
            return None
        return path

    def _answer(
        self, status: int, body: bytes = b"", more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class ImdsServer:
    """Use as a context manager."""

    def __init__(self) -> None:
        self.script = Script(items={"meta-data/instance-id": b"i-0abc"})
        self._server = _Server(self.script)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ImdsServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.script.released.set()
        self._server.shutdown()
        self._server.server_close()

"""One instance's metadata service, version 2: on a loopback port of its own, or where its listener
is."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import re
import secrets
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from email.message import Message
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

from spotrunner.lab.metadata import listing

HOST = "127.0.0.1"
_LONGEST_TTL_S = 21_600
_HTTP_PORT = 80
_ANY_HOPS = 64  # what Linux sends everything with
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN = "X-aws-ec2-metadata-token"
_VERSION = re.compile(r"/(latest|\d{4}-\d{2}-\d{2}|1\.0)(/.*)?")
_TITLES = {
    400: "400 - Bad Request",
    401: "401 - Unauthorized",
    403: "403 - Forbidden",
    404: "404 - Not Found",
}
_ERROR = """\
<?xml version="1.0" encoding="{encoding}"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>{title}</title>
 </head>
 <body>
  <h1>{title}</h1>
 </body>
</html>
"""

# What an instance of the lab may ask of its hypervisor: a path below /lab and a JSON object.
Control = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


class Imds:
    """`read` gives the items below /latest/ at the time of the call, or None when there is no
    machine any more; `required` is HttpTokens=required. Times are the lab's.

    `listener` is a socket that listens already; the answers that give a token, and those of our own
    interface, go `hop_limit` hops far (HttpPutResponseHopLimit), which matters where there are any.
    """

    def __init__(
        self,
        *,
        read: Callable[[], Mapping[str, str] | None],
        now: Callable[[], dt.datetime],
        control: Control,
        required: bool = True,
        hop_limit: int = 1,
        listener: socket.socket | None = None,
    ) -> None:
        self._read = read
        self._now = now
        self._control = control
        self._required = required
        self._tokens: dict[str, dt.datetime] = {}
        self.hop_limit = hop_limit
        self._server = _Server(listener or socket.create_server((HOST, 0)), _handler(self))
        host, port = self._server.socket.getsockname()
        self.url = f"http://{host}" if port == _HTTP_PORT else f"http://{host}:{port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="lab-imds",
            daemon=True,
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- answers: status and body ----------------------------------------------------------

    def put(self, path: str, headers: Message) -> tuple[int, str]:
        version = _VERSION.fullmatch(path)
        if version is None or version[2] != "/api/token":
            return 404, error_page(404)
        if version[1] != "latest" or "X-Forwarded-For" in headers:
            # Behind a proxy, or by a version-specific path, no token is given.
            return 403, error_page(403)
        ttl = headers.get(_TTL, "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= _LONGEST_TTL_S:
            return 400, error_page(400)
        token = secrets.token_urlsafe(40)
        self._tokens[token] = self._now() + dt.timedelta(seconds=int(ttl))
        return 200, token

    def get(self, path: str, headers: Message) -> tuple[int, str]:
        token = headers.get(_TOKEN)
        if token is None and self._required:
            return 401, error_page(401)
        if token is not None and self._tokens.get(token, self._now()) <= self._now():
            return 401, error_page(401)
        version = _VERSION.fullmatch(path)
        tree = self._read()
        if version is None or tree is None:
            return 404, error_page(404)
        item = (version[2] or "").strip("/")
        text = tree.get(item)
        if text is None:
            text = listing(tree, item)
        return (200, text) if text is not None else (404, error_page(404))

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        """The stand-ins' way to the hypervisor; the real service knows no POST."""
        if not path.startswith("/lab/"):
            return 405, error_page(404)
        try:
            return 200, json.dumps(self._control(path.removeprefix("/lab"), json.loads(body)))
        except (ValueError, KeyError) as error:
            return 400, str(error)

    def date(self) -> str:
        return format_datetime(self._now().replace(microsecond=0), usegmt=True)


def error_page(status: int) -> str:
    """The service's own page, byte by byte."""
    encoding = "iso-8859-1" if status == 404 else "UTF-8"
    return _ERROR.format(encoding=encoding, title=_TITLES[status])


class _Server(socketserver.ThreadingTCPServer):
    # Not HTTPServer: it looks up the host's name, which can hang without a resolver.
    daemon_threads = True

    def __init__(
        self, listener: socket.socket, handler: type[http.server.BaseHTTPRequestHandler]
    ) -> None:
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle (killed with its instance) is no news."""


def _reach(connection: socket.socket, command: str, hop_limit: int) -> None:
    """Set how many hops the next answer goes."""
    hops = _ANY_HOPS if command in ("GET", "HEAD") else hop_limit
    connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)


def _handler(imds: Imds) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_PUT(self) -> None:
            self._body()
            self._send(*imds.put(self.path, self.headers))

        def do_GET(self) -> None:
            self._send(*imds.get(self.path, self.headers))

        def do_HEAD(self) -> None:
            self._send(*imds.get(self.path, self.headers))

        def do_POST(self) -> None:
            self._send(*imds.post(self.path, self._body()))

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _send(self, status: int, text: str) -> None:
            body = text.encode()
            _reach(self.connection, self.command, imds.hop_limit)
            self.send_response_only(status, HTTPStatus(status).phrase)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Date", imds.date())
            self.send_header("Server", "EC2ws")
            if self.command == "PUT" and status == HTTPStatus.OK:
                self.send_header(_TTL, self.headers[_TTL])
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet: an agent asks every second."""

    return Handler

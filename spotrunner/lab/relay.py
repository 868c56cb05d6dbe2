"""Carries TCP connections from a listening socket, which may lie in another network namespace, to
a loopback port of this machine."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import Any

_CHUNK_BYTES = 1 << 16
_CONNECT_TIMEOUT_S = 10.0


class Relay:
    """From `start` to `close`. It owns the listening socket."""

    def __init__(self, listener: socket.socket, port: int) -> None:
        self._server = _Server(listener, port)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="lab-relay",
            daemon=True,
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Also of one that was never started."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True  # a connection that nobody ends must not hold up the end of the lab

    def __init__(self, listener: socket.socket, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Connection, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.port = port

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed with its instance, or a port where nobody listens: the other
        side sees its connection closed, as it would without us."""


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        there = socket.create_connection(("127.0.0.1", self.server.port), _CONNECT_TIMEOUT_S)
        with there:
            there.settimeout(None)
            back = threading.Thread(target=_carry, args=(there, self.request), daemon=True)
            back.start()
            _carry(self.request, there)
            back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    """Until the source ends; then the sink is told, which may still answer."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)

"""What an isolated lab says where it cannot run, and its relay; the rest needs root: tests/root."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spotrunner.lab.isolation import problem
from spotrunner.lab.relay import Relay

PATIENCE_S = 10.0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it says so first")
def test_what_is_missing_is_named_with_its_packages(tmp_path: Path) -> None:
    assert problem(uid=1000) == (
        "an isolated lab needs root, for its network namespaces and docker daemons"
    )
    for tool in ("ip", "unshare", "mount", "mkfs.ext4", "docker"):
        (tmp_path / tool).touch(mode=0o755)
    assert problem(uid=0, path=str(tmp_path)) == (
        "an isolated lab needs iptables, dockerd, which are not installed"
        " (Debian and Ubuntu: apt-get install docker.io iptables)"
    )


@contextmanager
def relayed(port: int) -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    relay = Relay(listener, port)
    relay.start()
    try:
        yield address
    finally:
        relay.close()


def test_a_relay_carries_both_ways_to_the_end() -> None:
    """Much more than a buffer holds, and the answer comes after the question's end."""
    question, answer = b"q" * 3_000_000, b"a" * 2_000_000
    heard = []

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(read_all(connection))
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        served = threading.Thread(target=serve, args=(server,))
        served.start()
        with (
            relayed(server.getsockname()[1]) as address,
            socket.create_connection(address, PATIENCE_S) as client,
        ):
            client.sendall(question)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == answer
        served.join()
    assert heard == [question]


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_where_nobody_listens_the_connection_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with relayed(port) as address, socket.create_connection(address, PATIENCE_S) as client:
        assert client.recv(1) == b""


def test_a_relay_that_never_started_is_closed_too() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    Relay(listener, 1).close()
    assert listener.fileno() == -1

"""The endpoint as a server on loopback."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import MotoRequestHandler
from typing_extensions import Self
from werkzeug.serving import ThreadedWSGIServer

from spotrunner.lab.endpoint.app import EndpointApp
from spotrunner.lab.endpoint.call import Console
from spotrunner.lab.endpoint.ec2 import Awkwardness
from spotrunner.lab.gate import Gate
from spotrunner.lab.keys import RoleKeys
from spotrunner.lab.locked import LockedWorld
from spotrunner.ports import Clock
from spotrunner.sim.world import World

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"


class _RequestHandler(MotoRequestHandler):  # type: ignore[misc]  # moto ships no types
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet: every poll of every agent would be a line."""

    def send_response(self, code: int, message: str | None = None) -> None:
        """The status line alone: `Server` and `Date` are the application's to say."""
        self.send_response_only(code, message)

    def connection_dropped(
        self, error: BaseException, environ: WSGIEnvironment | None = None
    ) -> None:
        """A lost answer: without this the server would wait for another request first."""
        self.close_connection = True


class _Server(ThreadedWSGIServer):
    def server_bind(self) -> None:
        # HTTPServer's own would look up the host's name, which can hang without a resolver.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]


class HttpServer:
    """A WSGI application on a loopback port (0: any free one), in threads of its own."""

    def __init__(self, app: WSGIApplication, port: int = 0) -> None:
        self._server = _Server(HOST, port, app, handler=_RequestHandler)
        self.port: int = self._server.server_port
        self.url = f"http://{HOST}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="lab-endpoint",
            daemon=True,
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Served:
    """A context manager: an application with moto in it, served at `url`. moto keeps what it holds
    in the process, so it is emptied at every start."""

    def __init__(self, app: WSGIApplication) -> None:
        self._server = HttpServer(app)
        self.url = self._server.url

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


class LabEndpoint(Served):
    """An emulated AWS without instances behind it, for tests: a context manager with a `url`.

    with LabEndpoint(World(setup, seed=1), clock) as endpoint:
        ec2 = boto3.client("ec2", endpoint_url=endpoint.url, ...)
    """

    def __init__(
        self,
        world: World,
        clock: Clock,
        *,
        awkwardness: Awkwardness | None = None,
        console: Console = lambda _id: b"",
        seed: int = 0,
    ) -> None:
        self.world = LockedWorld(world, clock)
        self.keys = RoleKeys()
        self.gate = Gate(longest_wait_s=0.5)
        app = EndpointApp(
            world=self.world,
            keys=self.keys,
            gate=self.gate,
            console=console,
            awkwardness=awkwardness or Awkwardness(),
            seed=seed,
        )
        self.object_faults = app.object_faults
        super().__init__(app)


def empty_moto() -> None:
    """Forget everything that moto holds in this process."""
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()

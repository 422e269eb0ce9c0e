"""A simulated resource on a real port of the loopback interface, in a thread of its own."""

import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn

from gateway.simulator.app import create_simulator
from gateway.simulator.config import SimulatorConfig
from gateway.simulator.state import Simulator
from gateway.simulator.wire import OpenProtocol

_DEFAULT = SimulatorConfig()
STOP_TIMEOUT_S = 10.0


class LiveSimulator:
    """Serves a simulator as long as the context lasts.

    `url` is its address without a trailing slash; with `tls`, the names of a certificate's and its
    key's file, it speaks https. The state in `simulator` belongs to the serving
    thread: look at it through the control plane while requests are under way.
    """

    def __init__(
        self,
        config: SimulatorConfig = _DEFAULT,
        *,
        port: int = 0,
        tls: tuple[str, str] | None = None,
    ) -> None:
        app = create_simulator(config)
        self.simulator: Simulator = app.state.simulator
        self._socket = socket.create_server(("127.0.0.1", port), backlog=2048)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        certificate, key = tls or (None, None)
        settings = uvicorn.Config(
            app,
            http=OpenProtocol,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._serve, name="simulator", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.simulator.release()
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        self._socket.close()

    def _serve(self) -> None:
        # The socket has been listening since the constructor, so nobody needs to wait for start-up.
        self._server.run(sockets=[self._socket])

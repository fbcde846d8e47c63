"""The local API as one thing that starts and stops."""

import socket
from importlib.util import find_spec
from pathlib import Path

from agent.api.http.router import Router
from agent.api.http.server import HttpServer
from agent.api.http.socketfile import open_listener, remove
from agent.api.passing import Passing
from agent.api.routes import routes
from agent.api.service import Service
from agent.api.settings import ApiSettings
from agent.errors import EngineMissing


class ApiServer:
    """The service on a Unix socket, and beside it the socket that takes descriptors.

    The second one has the first one's name with ``.fd`` after it.
    """

    def __init__(self, settings: ApiSettings, service: Service) -> None:
        self._settings = settings
        self._service = service
        self._http = HttpServer(settings, Router(routes(service, settings)), service.metrics)
        self._passing: Passing | None = None

    @property
    def descriptors(self) -> Path:
        """Path of the socket that takes descriptors."""
        path = self._settings.socket
        return path.with_name(f"{path.name}.fd")

    @property
    def tcp_port(self) -> int:
        """Where TCP is listened on; 0 when it is not."""
        return self._http.tcp_port

    async def start(self) -> None:
        """Listen.

        Raises:
            NotReachable: another daemon listens there, or the place cannot be written.
            BadConfig: a configured user or group does not exist.
        """
        await self._http.start()
        try:
            if self._settings.grpc:
                await self._start_grpc()
            listener = open_listener(self._settings, self.descriptors, socket.SOCK_SEQPACKET)
        except BaseException:
            await self._http.close(0)
            raise
        self._inode = self.descriptors.lstat().st_ino
        self._passing = Passing(self._service.regions, self._http.caller_of)
        self._passing.start(listener)

    async def _start_grpc(self) -> None:
        """The second socket; what it needs is loaded here and not before."""
        for library in ("hpack", "google.protobuf"):
            if not _installed(library):
                raise EngineMissing(
                    f"{library} is not installed",
                    where="api.grpc",
                    hint="pip install 'edge-agent[grpc]'",
                )
        from agent.api.grpc.connection import GrpcConnection
        from agent.api.grpc.methods import Methods

        methods = Methods(self._service)
        await self._http.listen_beside(".grpc", lambda: GrpcConnection(self._http, methods))

    async def close(self, deadline_s: float = 5.0) -> None:
        """Answer what has arrived until the deadline, then cut off. Idempotent."""
        self._service.starting = "the agent is stopping"
        await self._http.close(deadline_s)
        if self._passing is not None:
            remove(self.descriptors, self._inode)
            self._passing.close()
            self._passing = None
        self._service.close()


def _installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # of a package whose parent is missing
        return False

"""The local API as one thing that starts and stops."""

from agent.api.http.router import Router
from agent.api.http.server import HttpServer
from agent.api.routes import routes
from agent.api.service import Service
from agent.api.settings import ApiSettings


class ApiServer:
    """The service on a Unix socket."""

    def __init__(self, settings: ApiSettings, service: Service) -> None:
        self._service = service
        self._http = HttpServer(settings, Router(routes(service, settings)), service.metrics)

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

    async def close(self, deadline_s: float = 5.0) -> None:
        """Answer what has arrived until the deadline, then cut off. Idempotent."""
        await self._http.close(deadline_s)
        self._service.close()

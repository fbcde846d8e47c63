"""Renews the certificate before it ends, and says so in time when it cannot."""

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.clock import Clock
from agent.errors import AgentError
from agent.identity.enrolment import Enrolment

if TYPE_CHECKING:
    from agent.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_S = 3600.0  # seconds between two looks at the certificate: the clock may be set meanwhile
DAY_S = 86_400.0


def due(begins: float, ends: float, share: float, now: float) -> bool:
    """Whether a certificate is to be renewed.

    Args:
        begins: of its validity, seconds since 1970.
        ends: of its validity, seconds since 1970.
        share: of its lifetime; with less than that left it is due.
        now: seconds since 1970. A clock that stands before the beginning is wrong, and proves nothing.
    """
    return now >= begins and ends - now < share * (ends - begins)


class Renewal:
    """Looks at the certificate from time to time while the daemon runs.

    Attributes:
        problem: why the last renewal failed; None when none did.
        looked: how often it has looked at the certificate.
    """

    def __init__(self, enrolment: Enrolment, *, clock: Clock, metrics: "Metrics | None") -> None:
        self.problem: AgentError | None = None
        self.looked = 0
        self._enrolment = enrolment
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._left_s = metrics and metrics.gauge(
            "edge_agent_certificate_left_seconds", "Time until the device's certificate ends"
        )

    def start(self) -> None:
        """Begin; the first look is at once. Call it once."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop. A request on its way is given up; it changes nothing. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            pause_s = await self._look()
            self.looked += 1
            await self._clock.sleep(pause_s)

    async def _look(self) -> float:
        """Renew if it is time; returns seconds until the next look."""
        settings = self._enrolment.settings
        try:
            certificate = await asyncio.to_thread(self._enrolment.current)
            begins = certificate.not_valid_before_utc.timestamp()
            ends = certificate.not_valid_after_utc.timestamp()
            left_s = ends - self._clock.wall()
            if self._left_s:
                self._left_s.set(left_s)
            if not due(begins, ends, settings.renew_share, self._clock.wall()):
                return LOOK_S
            if not settings.est:
                log.warning("the device's certificate ends in %.1f days", left_s / DAY_S)
                return DAY_S
            await asyncio.to_thread(self._enrolment.renew)
        except AgentError as error:
            self.problem = error
            log.warning("the device's certificate cannot be renewed: %s", error)
            return settings.retry_s
        self.problem = None
        log.info("the device's certificate is renewed")
        return min(LOOK_S, settings.retry_s)

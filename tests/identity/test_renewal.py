"""The daemon renews in time, says so when it cannot, and does not trust a clock in 1970."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.errors import NotReachable
from agent.identity.enrolment import Enrolment
from agent.identity.renewal import Renewal, due
from agent.telemetry.metrics import Metrics

DAY = 86_400.0


@pytest.mark.parametrize(
    ("now", "expected"), [(-1.0, False), (0.0, False), (66.9, False), (67.1, True), (150.0, True)]
)
def test_due_in_the_last_third(now, expected):
    assert due(0.0, 100.0, 0.33, now) is expected


@given(st.floats(0, 1e9), st.floats(1, 1e9), st.floats(0.01, 0.9), st.floats(-1e9, 3e9))
def test_once_due_it_stays_due(begins, lasts, share, now):
    ends = begins + lasts
    if due(begins, ends, share, now):
        assert due(begins, ends, share, now + 1)


async def running(enrolment, until, **settings) -> Renewal:
    """A renewal, watched until something has happened."""
    fast = dataclasses.replace(enrolment.settings, retry_s=1.0, **settings)
    made = Enrolment(fast, "pump-7", enrolment.folder)
    renewal = Renewal(made, clock=SystemClock(), metrics=Metrics())
    renewal.start()
    async with asyncio.timeout(20):
        while not until(renewal):  # noqa: ASYNC110 - files and servers have no event
            await asyncio.sleep(0.02)
    await renewal.close()
    return renewal


async def test_a_certificate_near_its_end_is_renewed_by_itself(enrolment, ca):
    first = await asyncio.to_thread(enrolment.enroll)
    await running(enrolment, lambda renewal: renewal.looked, renew_share=0.9)
    assert len(ca.seen) == 1  # a fresh one is left alone
    await asyncio.to_thread(_shorten, enrolment, ca)
    await running(enrolment, lambda _: enrolment.current().serial_number != first.serial_number)
    assert ("simplereenroll", "pump-7") in ca.seen


def _shorten(enrolment, ca) -> None:
    """Give the device a certificate that ends in a moment: as if a month had passed."""
    ca.days = timedelta(seconds=5) / timedelta(days=1)
    enrolment.renew()
    ca.days = 30


async def test_an_authority_that_is_away_is_asked_again_until_it_is_back(enrolment, ca):
    await asyncio.to_thread(enrolment.enroll)
    await asyncio.to_thread(_shorten, enrolment, ca)
    short = enrolment.current().serial_number
    ca.status = 503
    failed = await running(enrolment, lambda renewal: renewal.problem)
    assert isinstance(failed.problem, NotReachable)
    assert enrolment.current().serial_number == short
    ca.status = 200
    await running(enrolment, lambda _: enrolment.current().serial_number != short)

"""Events: nobody waits for a listener, and a listener knows what it lost."""

import asyncio

from agent.telemetry.events import LOST, EventBus, Subscription
from agent.types import Event


def event(number: int) -> Event:
    return Event("test.happened", float(number), {"number": number})


async def take(subscription: Subscription, number: int) -> list[tuple[int, Event]]:
    items = [await asyncio.wait_for(anext(subscription), 1) for _ in range(number)]
    return [(item.id, item.event) for item in items]


async def test_every_listener_gets_every_event_in_order() -> None:
    bus = EventBus()
    with bus.subscribe() as one, bus.subscribe() as two:
        for number in range(3):
            bus.publish(event(number))
        assert await take(one, 3) == await take(two, 3) == [(n + 1, event(n)) for n in range(3)]


async def test_a_slow_listener_loses_the_oldest_and_is_told_how_many() -> None:
    bus = EventBus()
    with bus.subscribe(maxsize=2) as slow:
        for number in range(5):
            bus.publish(event(number))
        lost, first, second = await take(slow, 3)
    assert (lost[0], lost[1].type, lost[1].data) == (3, LOST, {"count": 3})
    assert (first, second) == ((4, event(3)), (5, event(4)))


async def test_a_listener_goes_on_after_the_last_event_it_saw() -> None:
    bus = EventBus()
    for number in range(4):
        bus.publish(event(number))
    with bus.subscribe(after=2) as again:
        assert await take(again, 2) == [(3, event(2)), (4, event(3))]


async def test_what_the_history_no_longer_holds_is_counted_as_lost() -> None:
    bus = EventBus(history=2)
    for number in range(6):
        bus.publish(event(number))
    with bus.subscribe(after=1) as again:
        lost, *rest = await take(again, 3)
    assert lost[1].data == {"count": 3}
    assert [item[0] for item in rest] == [5, 6]


async def test_an_id_of_an_earlier_run_is_taken_as_new_events_only() -> None:
    bus = EventBus()
    with bus.subscribe(after=1000) as again:
        bus.publish(event(0))
        assert await take(again, 1) == [(1, event(0))]


async def test_a_closed_subscription_gets_nothing_more() -> None:
    bus = EventBus()
    subscription = bus.subscribe()
    subscription.close()
    subscription.close()
    bus.publish(event(0))
    assert bus.listeners == 0

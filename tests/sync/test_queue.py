"""Which row goes next: importance, order, nothing twice at once, nothing forgotten."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.store.outbox import CLASSES, Queued
from agent.sync.queue import MAX_REFUSED, RETRY_REFUSED_S, SendQueue
from agent.types import Message


def row(seq: int, kind: str = "telemetry") -> Queued:
    return Queued(seq, Message(f"id-{seq}", kind, f"t/{kind}/{seq % 3}", b"", 0.0))


def serve(queue: SendQueue, table: list[Queued]) -> None:
    """Answer every look-up of the queue from a table."""
    for fetch in queue.fetch():
        rows = [r for r in table if r.message.kind == fetch.kind and r.seq > fetch.after]
        queue.fetched(fetch, rows[: fetch.limit])


def test_the_most_important_goes_first_and_order_of_arrival_holds():
    queue = SendQueue(ahead=10)
    table = [row(1), row(2, "report"), row(3), row(4, "escalation")]
    serve(queue, table)
    serve(queue, table)
    sent = []
    while (next_row := queue.peek()) is not None:
        sent.append(next_row.seq)
        queue.sent([next_row])
        serve(queue, table)
    assert sent == [4, 2, 1, 3]


def test_news_that_arrive_during_a_lookup_are_not_forgotten():
    queue = SendQueue(ahead=10)
    wanted = queue.fetch()
    queue.news()
    for fetch in wanted:
        queue.fetched(fetch, [])
    assert [fetch.kind for fetch in queue.fetch()] == list(CLASSES)


def test_an_answer_from_before_a_reconnect_is_passed_over():
    queue = SendQueue(ahead=4)
    table = [row(n) for n in range(1, 4)]
    serve(queue, table)
    serve(queue, table)
    queue.sent([queue.peek()])
    wanted = [fetch for fetch in queue.fetch() if fetch.after]
    queue.connected()
    for fetch in wanted:
        queue.fetched(fetch, [row(99)])
    serve(queue, table)
    serve(queue, table)
    assert queue.peek().seq == 1


def test_a_refused_topic_is_offered_again_later_in_order_and_holds_no_other_up():
    queue = SendQueue(ahead=10)
    table = [row(1), row(2), row(4)]
    serve(queue, table)
    serve(queue, table)
    first = queue.peek()
    queue.sent([first])
    assert queue.refused(first, now=0.0)
    assert queue.peek().seq == 2
    queue.sent([queue.peek()])
    assert queue.peek() is None
    assert queue.next_retry() == RETRY_REFUSED_S
    queue.retry(RETRY_REFUSED_S)
    serve(queue, table)
    assert [queue.peek().seq, queue.next_retry()] == [1, None]
    queue.sent([queue.peek()])
    assert queue.peek().seq == 4


def test_a_broker_that_refuses_everything_fills_no_memory():
    queue = SendQueue(ahead=10)
    refused = [
        Queued(n, Message(f"id-{n}", "escalation", f"t/{n}", b"", 0.0)) for n in range(1, 2000)
    ]
    table = [*refused, row(5000)]
    news = sent = 0
    while True:
        serve(queue, table)
        if (next_row := queue.peek()) is None or next_row.message.kind != "escalation":
            break
        queue.sent([next_row])
        sent += 1
        news += queue.refused(next_row, now=0.0)
    assert sent == news == MAX_REFUSED + 1
    serve(queue, table)
    assert queue.peek().seq == 5000
    queue.retry(RETRY_REFUSED_S)
    serve(queue, table)
    assert queue.peek().seq == 1


class Sending(RuleBasedStateMachine):
    """Rows come, go out, are answered or cut off, in any order, beside the table itself."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = SendQueue(ahead=6)
        self.table: list[Queued] = []
        self.in_flight: list[Queued] = []
        self.settling: list[Queued] = []
        self.parked: set[str] = set()
        self.seq = 0
        self.now = 0.0

    @rule(kinds=st.lists(st.sampled_from(CLASSES), min_size=1, max_size=4))
    def put(self, kinds) -> None:
        for kind in kinds:
            self.seq += 1
            self.table.append(row(self.seq, kind))
        self.queue.news()

    @rule()
    def look_up(self) -> None:
        serve(self.queue, self.table)

    @rule()
    def send(self) -> None:
        if (next_row := self.queue.peek()) is not None:
            assert next_row in self.table
            assert next_row not in self.in_flight
            assert next_row not in self.settling
            assert next_row.message.topic not in self.parked
            self.queue.sent([next_row])
            self.in_flight.append(next_row)

    @precondition(lambda self: self.in_flight)
    @rule()
    def acknowledge(self) -> None:
        done = self.in_flight.pop(0)
        self.queue.acknowledged(done)
        self.settling.append(done)

    @precondition(lambda self: self.in_flight)
    @rule()
    def refuse(self) -> None:
        refused = self.in_flight.pop(0)
        self.queue.refused(refused, self.now)
        self.parked.add(refused.message.topic)

    @rule()
    def settle(self) -> None:
        self.table = [r for r in self.table if r not in self.settling]
        self.queue.settled(self.settling)
        self.settling = []

    @rule()
    def time_passes(self) -> None:
        self.now += RETRY_REFUSED_S
        self.queue.retry(self.now)
        self.parked.clear()

    @rule()
    def reconnect(self) -> None:
        self.in_flight.clear()
        self.parked.clear()
        self.queue.connected()

    @invariant()
    def it_knows_what_is_in_flight(self) -> None:
        assert self.queue.in_flight == len(self.in_flight)

    def teardown(self) -> None:
        """However it stands now: everything can still be delivered, most important first."""
        self.reconnect()
        self.settle()
        sent = []
        for _ in range(4 * len(self.table) + 4):
            serve(self.queue, self.table)
            if (next_row := self.queue.peek()) is not None:
                self.queue.sent([next_row])
                sent.append(next_row)
        assert sent == sorted(self.table, key=lambda r: (CLASSES.index(r.message.kind), r.seq))


TestSending = Sending.TestCase
TestSending.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

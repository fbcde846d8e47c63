"""One stream: a batch changes it, may be undone, and leaves a state that goes on exactly."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.errors import BadPayload, EngineFailed
from agent.pipelines.entries import Entry, Receipt, Single
from agent.pipelines.messages import Sender
from agent.pipelines.spec import PipelineSpec
from agent.pipelines.stream import Stream
from agent.sync.topics import Topics
from agent.types import Rows
from tests.fakes.detector import FakeDetector


def stream(
    model: str = "pump 1.0.0", before_push: Callable[[Rows], None] = lambda _: None
) -> Stream:
    sender = Sender(Topics("edge", "dev"), SystemClock())
    spec = PipelineSpec("pumps", "pump")
    return Stream("pump-1", spec, model, lambda _: FakeDetector(before_push), sender)


def entries(batch: list[Rows | Single]) -> list[Entry]:
    return [Entry(item, lambda _: None) for item in batch]


def rows(start: int, count: int = 1, value: float = 1.0) -> Rows:
    return Rows(
        "pump-1", ("a",), np.arange(start, start + count, dtype=float), np.full((count, 1), value)
    )


batches = st.lists(
    st.lists(
        st.one_of(
            st.builds(rows, st.integers(0, 60), st.integers(1, 8), st.sampled_from([1.0, 50.0])),
            st.builds(Single, st.sampled_from("bc"), st.floats(0, 60), st.floats(0, 5)),
        ),
        max_size=4,
    ),
    max_size=6,
)


@given(batches, st.integers(0, 5))
def test_a_stream_resumed_from_its_state_does_what_the_first_one_would(
    batches: list[list[Rows | Single]], cut: int
) -> None:
    first, second = stream(), stream()
    for number, batch in enumerate(batches):
        ours, theirs = first.process(entries(batch)), second.process(entries(batch))
        assert [str(r) for r in ours.results] == [str(r) for r in theirs.results]
        assert [m.topic.split("/")[3] for m in ours.messages] == [
            m.topic.split("/")[3] for m in theirs.messages
        ]
        if number == cut:
            second = stream()
            second.resume(theirs.state)
    assert first.status() == second.status()


@given(batches)
def test_an_undone_batch_leaves_no_trace(batches: list[list[Rows | Single]]) -> None:
    changed = stream()
    for batch in batches:
        before = changed.status()
        changed.process(entries(batch))
        changed.undo()
        assert changed.status() == before
        changed.commit(changed.process(entries(batch)).state)


def test_a_failing_entry_leaves_no_trace_among_others() -> None:
    def fail(given_rows: Rows) -> None:
        if given_rows.values.max() > 40:
            raise EngineFailed("no")

    failing, clean = stream(before_push=fail), stream()
    work = failing.process(entries([rows(0, 12), rows(12, value=50.0), rows(13, 2)]))
    clean.process(entries([rows(0, 12), rows(13, 2)]))
    assert [type(result) for result in work.results] == [Receipt, EngineFailed, Receipt]
    assert failing.status() == clean.status()
    assert (work.rows, work.receipt.windows) == (14, 4)


def test_a_state_of_another_model_or_format_is_refused_and_leaves_a_new_stream() -> None:
    state = stream().process(entries([rows(0, 12)])).state
    changed = msgspec.msgpack.encode({**msgspec.msgpack.decode(state), "format": 99})
    for other, given_state in [
        (stream("pump 2.0.0"), state),
        (stream(), changed),
        (stream(), b"?"),
    ]:
        with pytest.raises(BadPayload):
            other.resume(given_state)
        assert other.status().rows == 0
        assert other.process(entries([rows(0, 12)])).receipt.accepted == 12


def test_receipts_add_up() -> None:
    total = Receipt(1, {"late": 1}, 2, 0) + Receipt(2, {"late": 1, "same": 3}, 1, 1)
    assert total == Receipt(3, {"late": 2, "same": 3}, 3, 1)


@given(batches)
def test_what_is_sent_again_after_a_crash_has_no_effect_again(
    batches: list[list[Rows | Single]],
) -> None:
    """Whatever was committed and not acknowledged comes again, to a stream made from the state."""
    once, again = stream(), stream()
    for batch in batches:
        once.process(entries(batch))
        state = again.process(entries(batch)).state
        again = stream()
        again.resume(state)
        work = again.process(entries(batch))
        assert work.messages == []
        assert all(isinstance(result, Receipt) for result in work.results)
        again = stream()
        again.resume(work.state)
    assert once.status().windows == again.status().windows
    assert once.status().warnings == again.status().warnings


def test_a_repeat_is_told_so_and_counted() -> None:
    watched = stream()
    work = watched.process(entries([rows(0, 12), rows(0, 12)]))
    assert work.results == [Receipt(12, {}, 2, 0), Receipt(0, {"repeat": 12}, 0, 0)]
    status = watched.status()
    assert (status.rows, status.dropped) == (24, {"repeat": 12})

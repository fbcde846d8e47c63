"""One stream: a batch changes it, may be undone, and leaves a state that goes on exactly."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.errors import BadPayload, EngineFailed
from agent.pipelines.messages import Sender
from agent.pipelines.spec import PipelineSpec
from agent.pipelines.stream import Receipt, Single, Stream
from agent.types import Rows
from tests.fakes.detector import FakeDetector


def stream(
    model: str = "pump 1.0.0", before_push: Callable[[Rows], None] = lambda _: None
) -> Stream:
    sender = Sender("dev", "edge", SystemClock())
    spec = PipelineSpec("pumps", "pump")
    return Stream("pump-1", spec, model, lambda: FakeDetector(before_push), sender)


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
        ours, theirs = first.process(batch), second.process(batch)
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
        changed.process(batch)
        changed.undo()
        assert changed.status() == before
        changed.commit(changed.process(batch).state)


def test_a_failing_entry_leaves_no_trace_among_others() -> None:
    def fail(given_rows: Rows) -> None:
        if given_rows.values.max() > 40:
            raise EngineFailed("no")

    failing, clean = stream(before_push=fail), stream()
    work = failing.process([rows(0, 12), rows(12, value=50.0), rows(13, 2)])
    clean.process([rows(0, 12), rows(13, 2)])
    assert [type(result) for result in work.results] == [Receipt, EngineFailed, Receipt]
    assert failing.status() == clean.status()
    assert (work.rows, work.receipt.windows) == (14, 4)


def test_a_state_of_another_model_or_format_is_refused_and_leaves_a_new_stream() -> None:
    state = stream().process([rows(0, 12)]).state
    changed = msgspec.msgpack.encode({**msgspec.msgpack.decode(state), "format": 99})
    for other, given_state in [
        (stream("pump 2.0.0"), state),
        (stream(), changed),
        (stream(), b"?"),
    ]:
        with pytest.raises(BadPayload):
            other.resume(given_state)
        assert other.status().rows == 0
        assert other.process([rows(0, 12)]).receipt.accepted == 12


def test_receipts_add_up() -> None:
    total = Receipt(1, {"late": 1}, 2, 0) + Receipt(2, {"late": 1, "same": 3}, 1, 1)
    assert total == Receipt(3, {"late": 2, "same": 3}, 3, 1)

"""Cases: asked once, answered once, bounded."""

from dataclasses import replace

import pytest

from agent.errors import BadRequest, TooMany
from agent.store import cases
from agent.store.cases import Case

NOW = 1.7e9
CASE = Case("k-1", 1000, "r", "", "faq", "1.0.0", "d", NOW, NOW + 60, b"{}")


async def opened(database, case: Case = CASE) -> Case | None:
    return await database.write(lambda c: cases.open_case(c, case))


async def answered(database, text: bytes, id_: str = "k-1") -> Case | None:
    return await database.write(lambda c: cases.answer(c, id_, text, "desk", NOW + 5))


async def test_a_repeat_finds_the_first_case(database):
    assert await opened(database) is None
    assert await opened(database, replace(CASE, created=NOW + 9)) == CASE


@pytest.mark.parametrize("changes", [{"request": "other"}, {"owner": 1001}])
async def test_an_id_belongs_to_its_request_and_its_user(database, changes):
    await opened(database)
    with pytest.raises(BadRequest, match="another request"):
        await opened(database, replace(CASE, **changes))


async def test_the_first_answer_counts_and_is_kept_as_feedback_once(database):
    await opened(database)
    case = await answered(database, b'"nine"')
    assert (case.state, case.answer, case.source) == ("answered", b'"nine"', "desk")
    assert await answered(database, b'"ten"') is None
    rows = await database.read(lambda c: c.execute("SELECT answer FROM feedback").fetchall())
    assert rows == [(b'"nine"',)]


async def test_an_answer_to_no_case_changes_nothing(database):
    assert await answered(database, b"1", "nobody") is None
    assert await database.read(lambda c: c.execute("SELECT * FROM feedback").fetchall()) == []


async def test_a_warning_that_ends_closes_its_case_and_an_answer_still_counts(database):
    await opened(database, replace(CASE, subject="warning-1"))
    await database.write(lambda c: cases.close_subject(c, "warning-1"))
    assert (await database.read(lambda c: cases.read(c, "k-1"))).state == "closed"
    assert (await answered(database, b"1")).state == "answered"


async def test_over_the_bound_settled_cases_make_room_and_open_ones_do_not(database, monkeypatch):
    monkeypatch.setattr(cases, "MAX_CASES", 3)
    for number in range(3):
        await opened(database, replace(CASE, id=f"k-{number}"))
    with pytest.raises(TooMany):
        await opened(database, replace(CASE, id="k-3"))
    await answered(database, b"1", "k-1")
    await opened(database, replace(CASE, id="k-3"))
    found = await database.read(lambda c: cases.newest(c, 10))
    assert [case.id for case in found] == ["k-3", "k-2", "k-0"]
    late = replace(CASE, id="k-4", created=NOW + 100)
    await opened(database, late)  # the deadline of the others is over
    assert [case.id for case in await database.read(lambda c: cases.newest(c, 10, "open"))] == [
        "k-4", "k-3", "k-2"
    ]  # fmt: skip


async def test_one_user_cannot_take_all_places(database, monkeypatch):
    monkeypatch.setattr(cases, "MAX_OF_ONE", 2)
    await opened(database, replace(CASE, id="k-1"))
    await opened(database, replace(CASE, id="k-2"))
    with pytest.raises(TooMany, match="of this user"):
        await opened(database, replace(CASE, id="k-3"))
    await opened(database, replace(CASE, id="other", owner=1001))
    await opened(database, replace(CASE, id="alarm", owner=None))
    await answered(database, b"1", "k-1")
    await opened(database, replace(CASE, id="k-3"))

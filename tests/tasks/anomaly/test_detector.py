"""The detector with the shipped model: learns, warns, says which sensor, and survives a kill."""

import math
from functools import cache
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engines import catalog
from agent.engines.base import EngineOptions, Session
from agent.errors import BadManifest, BadPayload
from agent.pipelines.sources.simulator import Episode, Fault, simulate
from agent.tasks.anomaly import Alarm, AnomalyDetector, AnomalySettings, Outcome
from agent.trust.manifest import Manifest, parse_manifest
from agent.types import Rows

PACKAGE = Path(__file__).parents[3] / "models" / "pump-anomaly"
BEGIN = 600


@cache
def shipped() -> tuple[Session, Manifest]:
    manifest = parse_manifest((PACKAGE / "model.toml").read_bytes())
    model = (PACKAGE / manifest.model_file.path).read_bytes()
    return catalog.load_session(manifest.engine, model, EngineOptions()), manifest


def new(chosen: AnomalySettings | None = None) -> AnomalyDetector:
    return AnomalyDetector(*shipped(), chosen)


def part(rows: Rows, start: int, end: int) -> Rows:
    return Rows(rows.stream, rows.sensors, rows.time[start:end], rows.values[start:end])


@cache
def broken(fault: Fault, rows: int = 1200) -> Rows:
    return simulate(rows, seed=11, episodes=[Episode(fault, BEGIN, rows)], start=1e9).rows


def raised(outcome: Outcome) -> list[Alarm]:
    return [alarm for alarm in outcome.alarms if alarm.kind == "raised"]


@pytest.mark.parametrize(
    ("fault", "sensor", "direction"),
    [
        ("cavitation", "vibration", "higher"),
        ("closing valve", "flow", "lower"),
        ("bearing wear", "bearing_temperature", "higher"),
    ],
)
def test_warns_of_each_fault_and_names_a_sensor(fault: Fault, sensor: str, direction: str) -> None:
    alarm = raised(new().push(broken(fault)))[0]
    assert 0 < alarm.time - 1e9 - BEGIN < 300
    assert alarm.since <= alarm.time
    named = {driver.name: driver for driver in alarm.sensors}
    assert sensor in named
    outcome = new().push(broken(fault))
    at = outcome.sensors.index(sensor)
    assert outcome.shares[-1, at] > 1 / len(outcome.sensors)
    assert direction in {driver.direction for driver in alarm.sensors} | {"within"}


def test_says_the_drivers_in_their_own_unit() -> None:
    drivers = raised(new().push(broken("closing valve")))[0].sensors
    flow = next(driver for driver in drivers if driver.name == "flow")
    assert 10 < flow.value < 40
    assert 30 < flow.low < flow.high < 45


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_hour_of_healthy_pump_warns_of_nothing(seed: int) -> None:
    detector = new(AnomalySettings(learn_rows=1800))
    assert raised(detector.push(simulate(1800 + 3600, seed=seed).rows)) == []


def test_scores_every_row_after_the_learning() -> None:
    outcome = new().push(simulate(700, seed=1).rows)
    assert (outcome.phase, outcome.learned, outcome.progress) == ("watching", True, 1.0)
    assert len(outcome.scores) == 300
    np.testing.assert_allclose(outcome.shares.sum(axis=1), 1)


def test_learning_reports_its_progress() -> None:
    outcome = new().push(simulate(100, seed=1).rows)
    assert (outcome.phase, outcome.learned, outcome.progress) == ("learning", False, 0.25)
    assert len(outcome.scores) == 0


def same(one: Outcome, other: list[Outcome]) -> None:
    np.testing.assert_array_equal(one.times, np.concatenate([o.times for o in other]))
    np.testing.assert_allclose(one.scores, np.concatenate([o.scores for o in other]), atol=1e-6)
    assert [a.id for a in one.alarms] == [a.id for o in other for a in o.alarms]
    assert one.accepted == sum(o.accepted for o in other)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 999), min_size=1, max_size=12, unique=True))
def test_killed_and_restored_anywhere_it_finds_the_same(cuts: list[int]) -> None:
    rows = broken("closing valve", 1000)
    edges = [0, *sorted(cuts), len(rows)]
    detector, outcomes = new(), []
    for start, end in pairwise(edges):
        outcomes.append(detector.push(part(rows, start, end)))
        state = detector.state()
        detector = new()
        detector.restore(state)
    same(new().push(rows), outcomes)


def test_single_rows_find_the_same_as_a_batch() -> None:
    rows = broken("cavitation", 800)
    detector = new()
    same(new().push(rows), [detector.push(part(rows, i, i + 1)) for i in range(len(rows))])


def test_a_missing_sensor_is_no_alarm() -> None:
    rows = simulate(900, seed=4).rows
    values = rows.values.copy()
    values[500:, 4] = math.nan
    assert raised(new().push(Rows("pump", rows.sensors, rows.time, values))) == []


def test_a_silence_begins_a_new_window() -> None:
    rows = simulate(1000, seed=4).rows
    time = rows.time.copy()
    time[700:] += 7200
    outcome = new().push(Rows("pump", rows.sensors, time, rows.values))
    missing = shipped()[1].parameters["smooth"] + 2 * (shipped()[1].parameters["points"] - 1)
    assert len(outcome.scores) == 600 - (missing - 1)


@pytest.mark.parametrize("sensors", [1, 2, 40])
def test_any_number_of_sensors(sensors: int) -> None:
    random = np.random.default_rng(sensors)
    values = random.normal(size=(900, sensors))
    values[600:, 0] += 12
    names = tuple(f"s{i}" for i in range(sensors))
    outcome = new().push(Rows("machine", names, np.arange(900.0), values))
    assert raised(outcome)[0].sensors[0].name == "s0"


def test_relearn_forgets() -> None:
    detector = new()
    detector.push(simulate(700, seed=1).rows)
    detector.relearn()
    late = simulate(100, seed=1, start=1e6).rows
    assert detector.push(late).phase == "learning"


@given(st.binary(max_size=200))
def test_a_state_that_is_none_is_refused_and_nothing_changes(data: bytes) -> None:
    detector = new()
    with pytest.raises(BadPayload):
        detector.restore(data)
    assert detector.push(simulate(10, seed=1).rows).phase == "learning"


def test_a_state_of_a_model_with_another_window_is_refused() -> None:
    session, manifest = shipped()
    other = {**manifest.parameters, "smooth": manifest.parameters["smooth"] + 1}
    wider = AnomalyDetector(session, msgspec.structs.replace(manifest, parameters=other))
    wider.push(simulate(700, seed=1).rows)
    with pytest.raises(BadPayload):
        new().restore(wider.state())


def test_a_state_whose_tables_do_not_fit_is_refused_and_nothing_changes() -> None:
    detector = new()
    detector.push(simulate(700, seed=1).rows)
    before = detector.state()
    spoiled = msgspec.msgpack.decode(before)
    spoiled["baseline"]["covariance"].pop()
    with pytest.raises(BadPayload):
        detector.restore(msgspec.msgpack.encode(spoiled))
    assert detector.state() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [("points", 31), ("points", "many"), ("smooth", 0), ("threshold", -9.0), ("zero", None)],
)
def test_a_manifest_that_does_not_fit_is_refused(key: str, value: object) -> None:
    session, manifest = shipped()

    changed = msgspec.structs.replace(manifest, parameters={**manifest.parameters, key: value})
    with pytest.raises(BadManifest):
        AnomalyDetector(session, changed)


def test_the_state_stays_small_whatever_is_to_be_learned() -> None:
    sensors = tuple(f"s{i}" for i in range(256))
    detector = new(AnomalySettings(learn_rows=100_000))
    values = np.random.default_rng(0).normal(size=(100, 256))
    largest, phase = 0, "learning"
    for at in range(0, 700, 100):
        outcome = detector.push(Rows("machine", sensors, np.arange(at, at + 100.0), values))
        largest, phase = max(largest, len(detector.state())), outcome.phase
    assert phase == "watching"
    assert largest < 4 << 20


def test_sensors_that_come_while_learning_end_it_no_sooner_than_allowed() -> None:
    detector = new(AnomalySettings(learn_rows=100_000))
    detector.push(
        Rows("machine", ("a",), np.arange(600.0), np.random.default_rng(0).normal(size=(600, 1)))
    )
    sensors = ("a", *(f"s{i}" for i in range(255)))
    values = np.random.default_rng(1).normal(size=(1, 256))
    outcome = detector.push(Rows("machine", sensors, np.array([600.0]), values))
    assert (outcome.phase, outcome.progress) == ("watching", 1.0)

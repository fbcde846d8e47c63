"""The daemon as a process: start, ready, stop, killed, started again."""

import json
import signal
import stat
import time
from pathlib import Path

import numpy as np

from agent.pipelines.names import MAX_SENSORS
from tests.support.broker import Mosquitto
from tests.support.device import eventually
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.readings import healthy, shaken


def sync(broker: Mosquitto, *more: str) -> str:
    """A link to the cloud's broker that tries again quickly."""
    lines = [f'brokers = ["{broker.url}"]', "backoff_min_s = 0.05", "backoff_max_s = 0.2", *more]
    return "\n".join(["[sync]", *lines, ""])


def test_start_ready_and_stop_within_the_deadline(make_device: MakeDevice) -> None:
    """A plain stop ends with status 0, long before its deadline, and leaves no socket behind."""
    device = make_device().start()
    assert device.get("/healthz").status == 200
    assert device.get("/v2/health/ready").status == 200
    mode = stat.S_IMODE(device.socket.stat().st_mode)
    status, seconds = device.stop()
    assert (status, mode) == (0, 0o660)
    assert seconds < 10
    assert not device.socket.exists()
    assert "Traceback" not in device.log


def test_interrupt_from_the_keyboard_stops_as_well(make_device: MakeDevice) -> None:
    assert make_device().start().stop(signal.SIGINT)[0] == 0


def test_a_stop_during_the_start_is_obeyed(make_device: MakeDevice) -> None:
    device = make_device().start(wait=False)
    eventually((device.state / "lock").exists, what="the start")
    status, seconds = device.stop()
    assert status in (0, -signal.SIGTERM)
    assert seconds < 10
    assert "Traceback" not in device.log


def test_a_second_signal_stops_at_once(make_device: MakeDevice, broker: Mosquitto) -> None:
    """A broker that answers no more delays a stop; a second signal does not wait for it."""
    config = PIPELINE + sync(broker) + "[daemon]\nstop_deadline_s = 60.0\n"
    device = make_device(config).start()
    eventually(lambda: device.metric("mqtt_connects_total") >= 1, what="the link")
    broker.pause()
    assert device.readings("pump-1", healthy(3000)).status == 200
    process = device.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    eventually(lambda: "stopping" in device.log, what="the stop")
    time.sleep(0.3)
    assert process.poll() is None, "the stop waits for the broker"
    status, seconds = device.stop()
    broker.resume()
    assert status == 1
    assert seconds < 3


def test_a_silent_broker_does_not_hold_a_stop_beyond_its_deadline(
    make_device: MakeDevice, broker: Mosquitto
) -> None:
    config = PIPELINE + sync(broker) + "[daemon]\nstop_deadline_s = 2.0\n"
    device = make_device(config).start()
    eventually(lambda: device.metric("mqtt_connects_total") >= 1, what="the link")
    broker.pause()
    assert device.readings("pump-1", healthy(3000)).status == 200
    _, seconds = device.stop()
    broker.resume()
    assert seconds < 6


def test_a_device_goes_on_after_a_kill(make_device: MakeDevice) -> None:
    """The baseline, the counts and the warning that holds are those of before."""
    device = make_device().start()
    device.readings("pump-1", healthy(1000))
    device.readings("pump-1", shaken(1000, 60))
    before = device.get("/api/status").json["streams"]
    device.kill()
    device.start()
    assert device.get("/api/status").json["streams"] == before


def test_two_daemons_do_not_share_a_state(make_device: MakeDevice) -> None:
    device = make_device().start()
    other = device.run("run", "--config", str(device.config_path), check=False)
    assert other.returncode == 1
    assert "another daemon uses this state directory" in other.stderr
    assert "Traceback" not in other.stderr
    assert device.get("/readyz").status == 200


def test_a_device_without_models_or_brokers_runs(make_device: MakeDevice) -> None:
    device = make_device("", models=None).start()
    assert device.get("/healthz").status == 200
    assert device.stop()[0] == 0


def test_a_socket_left_by_a_kill_is_replaced(make_device: MakeDevice) -> None:
    device = make_device("", models=None).start()
    device.kill()
    assert device.socket.exists()
    device.start()
    assert device.get("/healthz").status == 200


def test_a_state_directory_that_cannot_be_used_is_a_clear_error(
    make_device: MakeDevice, tmp_path: Path
) -> None:
    device = make_device("", models=None)
    device.write_config()
    device.state.write_text("a file where a directory should be")
    done = device.run("run", "--config", str(device.config_path), check=False)
    assert done.returncode == 1
    assert "storage.failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_installed_later_is_found_without_a_restart(
    make_device: MakeDevice, pump_models: Path
) -> None:
    """Until then the device says that it is not ready, and readings are put off."""
    device = make_device(models=None).start(wait=False)
    eventually(device.socket.exists, what="the socket")
    answer = device.readings("pump-1", healthy(10))
    assert (answer.status, answer.code) == (503, "agent.not_ready")
    assert answer.headers["Retry-After"]
    assert device.get("/readyz").status == 503
    device.adopt(pump_models)
    eventually(lambda: device.get("/readyz").status == 200, what="the model")
    assert device.readings("pump-1", healthy(10)).json["accepted"] == 10


def test_a_stream_of_as_many_sensors_as_there_may_be_is_watched(make_device: MakeDevice) -> None:
    device = make_device().start()
    values = np.random.default_rng(0).normal(10.0, 1.0, (MAX_SENSORS, 600)).round(3).tolist()
    columns = {f"s{number}": column for number, column in enumerate(values)}
    body = {"time": list(range(600)), **columns}
    answer = device.post("/api/readings?stream=wide", json.dumps(body).encode())
    assert answer.status == 200, answer.body
    assert (answer.json["accepted"], answer.json["windows"] > 100) == (600, True)
    device.kill()
    device.start()
    assert device.get("/api/status").json["streams"][0]["phase"] == "watching"

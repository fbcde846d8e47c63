"""A pipeline whose model runs in a worker: the same warnings, and no reading lost when it is killed."""

import os
import signal

from tests.support.device import eventually
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.readings import healthy
from tests.system.test_isolation import workers

ALWAYS = '[serving]\nisolation = "always"\n'


def test_a_pipeline_goes_on_after_its_worker_was_killed(make_device: MakeDevice) -> None:
    device = make_device(PIPELINE + ALWAYS).start()
    (worker,) = workers(device)
    first = healthy(600)
    assert device.readings("pump-1", first).status == 200
    os.kill(worker, signal.SIGKILL)
    again = healthy(600, 600)
    eventually(lambda: device.readings("pump-1", again).status == 200, what="the new worker")
    (stream,) = device.get("/api/status").json["streams"]
    assert stream["rows"] - stream["dropped"].get("repeat", 0) == 1200
    (other,) = workers(device)
    assert other != worker

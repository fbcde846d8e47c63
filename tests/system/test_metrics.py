"""What a running daemon exports is what docs/metrics.md says, to the word."""

import re

from agent import __version__
from tests.support.broker import Mosquitto
from tests.support.device import ROOT
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.test_life import sync

#: Made for a device that was enrolled.
CONDITIONAL = {"edge_agent_certificate_left_seconds"}


def test_the_page_and_a_running_daemon_agree(make_device: MakeDevice, broker: Mosquitto) -> None:
    text = make_device(PIPELINE + sync(broker)).start().get("/metrics").body.decode()
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", text, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .* \| (.*) \|$", page, re.MULTILINE)
    documented = {name: (kind, meaning) for name, kind, meaning in rows if name not in CONDITIONAL}
    assert {name: (kinds[name], told) for name, told in helps.items()} == documented
    assert f'edge_agent_info{{version="{__version__}"}} 1\n' in text

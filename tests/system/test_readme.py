"""The README's first five minutes: every block as it stands, in one shell, as a newcomer types them."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.device import ROOT, command

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: An error of any line is an error of the whole, an endless answer is left, the daemon is ended.
PRELUDE = """
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
curl() {
    command curl --silent --show-error --fail-with-body --max-time 3 "$@" || (($? == 28))
}
"""


def first_five_minutes() -> str:
    """The blocks of the README's part of that name."""
    page = (ROOT / "README.md").read_text()
    part = page.partition("\n## The first five minutes\n")[2].partition("\n## ")[0]
    return "\n".join(BLOCK.findall(part))


@pytest.fixture
def home() -> Iterator[Path]:
    """A new user's; short, since a socket's path is."""
    with tempfile.TemporaryDirectory(prefix="first-") as place:
        yield Path(place)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_first_five_minutes_work_as_they_stand(home: Path) -> None:
    lines = first_five_minutes()
    assert lines.startswith("export PATH=$PWD/.venv/bin:$PATH REPO=$PWD && mkdir /tmp/first")
    here = str(Path(command()[0]).parent)
    done = subprocess.run(
        ["bash", "-c", PRELUDE + lines.replace("/tmp/first", f"{home}/first")],
        cwd=ROOT,
        env={"PATH": f"{here}:/usr/local/bin:/usr/bin:/bin", "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5400 accepted, 5000 windows scored, 3 warnings" in done.stdout
    assert "\nedge_agent_windows_total 5000\n" in done.stdout

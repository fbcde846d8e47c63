"""What every test may ask for."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything imports the runtime

_CHECKOUT = Path(__file__).resolve().parent.parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs the workstation's libraries where they are not installed."""
    if item.get_closest_marker("workstation") and find_spec("torch") is None:
        pytest.skip("torch is not installed here (make test-workstation)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The workstation's libraries warn of each other's age; that is not ours to mend."""
    for item in items:
        if item.get_closest_marker("workstation"):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real models and recordings, kept outside the repository; absent from a plain clone."""
    path = Path(os.environ.get("EDGE_AGENT_SHARED") or _CHECKOUT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real models and recordings at {path} (set EDGE_AGENT_SHARED)")
    return path

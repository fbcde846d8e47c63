"""What every test may ask for."""

import os
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything imports the runtime

_CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real models and recordings, kept outside the repository; absent from a plain clone."""
    path = Path(os.environ.get("EDGE_AGENT_SHARED") or _CHECKOUT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real models and recordings at {path} (set EDGE_AGENT_SHARED)")
    return path

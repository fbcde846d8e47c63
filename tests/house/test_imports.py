"""What an import costs: looking at the agent, or asking it for help, loads no heavy library."""

import subprocess
import sys

import pytest

HEAVY = (
    "ai_edge_litert", "amqtt", "cryptography", "numpy", "onnxruntime", "paho", "rich",
    "securesystemslib", "sqlite_utils", "tflite_runtime", "torch", "tuf",
)  # fmt: skip

REPORT = f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"


def loaded_after(statement: str) -> list[str]:
    """The heavy libraries that a fresh interpreter holds after the statement."""
    code = f"import sys\n{statement}\n{REPORT}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()[-1].split()


def test_importing_the_agent_loads_nothing_heavy() -> None:
    assert loaded_after("import agent, agent.errors, agent.types, agent.clock") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_asking_for_help_loads_nothing_heavy(arguments: list[str]) -> None:
    statement = (
        "from agent.cli import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code"
    )
    assert loaded_after(statement) == []

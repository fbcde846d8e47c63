"""The repository's own rules, held by a test each."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import agent

ROOT = Path(__file__).parents[2]
LONGEST_FILE = 400  # lines


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository, as git knows them; unpacked archives have no git and skip."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--", *patterns], capture_output=True, check=True
    )
    names = listing.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_text(errors="ignore")


def docstring_of(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def test_no_file_names_a_registry_or_a_machine() -> None:
    """Registry addresses and home directories belong to a machine, not to the project."""
    forbidden = re.compile(
        r"files\.pythonhosted|pypi\.org|--(?:extra-)?index-url|--find-links|file:///(?:opt|root|home)"
        r"|/(?:root|home/\w+)/|/work/"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path != Path(__file__) and (match := forbidden.search(text_of(path)))
    ]
    assert found == []


def test_every_locked_dependency_is_pinned_with_hashes() -> None:
    """The lock installs with --require-hashes, so no entry may lack one."""
    lock = (ROOT / "requirements/dev.lock").read_text().replace("\\\n", " ")
    entries = [line for line in lock.splitlines() if line.strip()]
    assert entries
    assert [e for e in entries if "==" not in e or "--hash=sha256:" not in e] == []


def test_version_is_the_changelogs() -> None:
    """The package, the project file and the newest changelog entry agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert agent.__version__ == project["version"] == newest[1]


@pytest.mark.parametrize("room", sorted(p.parent.name for p in ROOT.glob("agent/*/__init__.py")))
def test_every_room_says_what_it_owns(room: str) -> None:
    """A room's `__init__.py` opens with a paragraph on what it owns and what it never does."""
    docstring = docstring_of(ROOT / "agent" / room / "__init__.py")
    assert len(docstring.split()) >= 15
    assert "never" in docstring.lower()


def test_no_file_outgrows_a_reader() -> None:
    """Source files stay short enough to be read at one sitting."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked("agent/*.py", "tools/*.py", "models/*.py", "bench/*.py")
        if (lines := len(text_of(path).splitlines())) > LONGEST_FILE
    }
    assert long == {}


def test_nothing_is_left_for_later() -> None:
    """No debt markers in the code: what is missing is an issue, not a comment."""
    debt = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked("*.py")
        if path != Path(__file__) and (match := debt.search(text_of(path)))
    ]
    assert found == []


def test_every_file_that_calls_itself_pure_is_held_to_it() -> None:
    """Import rules for files without I/O name exactly those whose docstring says "Pure"."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    listed = next(rule["source_modules"] for rule in rules if rule["name"] == "Deciders do no I/O")
    pure = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in ROOT.glob("agent/**/*.py")
        if re.search(r"\bPure\b|\bpure functions\b", docstring_of(path))
    }
    assert pure | {"agent.errors", "agent.types"} == set(listed)

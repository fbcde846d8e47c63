"""Documentation that is made from code, or points into it, is up to date."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_configuration_page_is_what_the_settings_say() -> None:
    """`make docs` writes it again."""
    script = ROOT / "scripts" / "document_settings.py"
    done = subprocess.run([sys.executable, script, "--check"], timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that exists."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_decision_is_in_the_index() -> None:
    """docs/adr/README.md lists each record, and numbers are used once."""
    records = sorted(path.name for path in ROOT.glob("docs/adr/[0-9]*.md"))
    index = (ROOT / "docs/adr/README.md").read_text()
    assert [name for name in records if f"]({name})" not in index] == []
    assert len({name[:4] for name in records}) == len(records)

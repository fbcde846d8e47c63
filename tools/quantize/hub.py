"""Hugging Face models: a local folder, or a name on the hub where there is network.

Only safe files are asked for: weights as safetensors, configuration and tokenizer. A pickle is not
downloaded, and a model that has only pickles is refused.
"""

import re
from pathlib import Path

from agent.errors import BadModel, NotFound, NotReachable
from tools.quantize.libraries import HINT
from tools.quantize.work import HUB

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}\Z")
SAFE = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"]


def folder(source: Path, work: Path) -> Path:
    """The folder of a model: the source itself, or what is downloaded by its name.

    Args:
        source: an existing file or folder, or a name such as ``org/model``.
        work: where downloads are kept; an interrupted one resumes.

    Raises:
        NotFound: neither a path nor a name.
        NotReachable: the hub does not answer, or does not have it.
    """
    if source.exists():
        return source
    if not NAME.match(str(source)):
        raise NotFound("no such file or folder", where=str(source))
    return _download(str(source), work / HUB)


def _download(name: str, place: Path) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise NotFound(
            "no such file or folder, and names on the hub need the workstation extra",
            where=name,
            hint=HINT,
        ) from error
    try:
        found = Path(snapshot_download(name, cache_dir=place, allow_patterns=SAFE))
    except Exception as error:  # its classes and those of its HTTP library
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NotReachable(
            f"neither a path here nor to be had from the hub: {_sentence(lines[0])}", where=name
        ) from error
    if not any(found.rglob("*.safetensors")):
        raise BadModel("the hub has no safetensors of it: pickles are not accepted", where=name)
    return found


def _sentence(text: str) -> str:
    """The first one, without its full stop."""
    return re.split(r"[.:] ", text, maxsplit=1)[0][:200].rstrip(".")

"""What a measurement was made on."""

import platform
from pathlib import Path

from tools.quantize.work import versions

RUNTIMES = ("onnxruntime", "ai-edge-litert", "onnxruntime-genai", "ctranslate2")
# What the time of an int8 model depends on, as /proc/cpuinfo names it on x86 and on Arm.
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "asimddp", "i8mm")


def machine() -> str:
    """Processor, Python and runtimes with their versions, in one line."""
    found = processor(Path("/proc/cpuinfo").read_text())
    return ", ".join([found, f"Python {platform.python_version()}", *versions(RUNTIMES)])


def processor(cpuinfo: str) -> str:
    """The processor's name, and what it has for products of integers: ``AMD EPYC (avx2)``.

    Args:
        cpuinfo: text of ``/proc/cpuinfo``; on Arm it has no name, and the architecture stands for it.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    name = fields.get("model name") or platform.machine()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    has = " ".join(one for one in INSTRUCTIONS if one in flags)
    return f"{name} ({has})" if has else name

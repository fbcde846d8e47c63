"""A model's trial in a process of its own, with limits on its memory and its time.

A file that passes every signature may still crash a runtime, hang it or eat the memory of the
device. In a process of its own it ends that process, and the daemon says why the model is refused.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

import msgspec

from agent.errors import AgentError, BadModel
from agent.registry.state import MANIFEST
from agent.trust.manifest import Manifest, parse_manifest

TRIAL_S = 120.0  # for loading the model and running all its golden cases
BASE_MIB = 768  # what the runtimes map for themselves, whatever the model
MODEL_COPIES = 4  # of the package's bytes: as they come, parsed, optimised, prepacked

_HINT = "Nothing was activated"


def try_isolated(
    manifest: Manifest, files: Mapping[str, bytes], *, limit_s: float = TRIAL_S
) -> None:
    """As `try_model`, in a child process.

    Raises:
        BadModel: also when the model crashes the runtime, takes too long or too much memory.
        EngineMissing, GoldenFailed: as `try_model`.
    """
    size = sum(map(len, files.values()))
    allowed = (BASE_MIB + manifest.resources.memory_mib) * 2**20 + MODEL_COPIES * size
    command = [sys.executable, "-m", "agent.registry.isolated", str(allowed)]
    run_trial(command, msgspec.msgpack.encode(dict(files)), str(manifest.ref), limit_s)


def run_trial(command: Sequence[str], payload: bytes, where: str, limit_s: float) -> None:
    """Run a trial's process and turn its end into a verdict."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command,
            input=payload,
            capture_output=True,
            timeout=limit_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"its trial run took longer than {limit_s:g} s"
        raise BadModel(message, where=where, hint=_HINT) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        message = (
            f"its trial run was ended by {name}: it crashes the runtime or takes too much memory"
        )
        raise BadModel(message, where=where, hint=_HINT)
    if done.returncode:
        raise _verdict(done.stdout, done.stderr, where)


def _verdict(output: bytes, errors: bytes, where: str) -> AgentError:
    """The error that the child wrote as its last line, or what is left of one."""
    try:
        fields = json.loads(output.splitlines()[-1])
        known = _by_code(AgentError)[fields.pop("code")]
        return known(**fields)
    except (ValueError, LookupError, TypeError):
        lines = errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return BadModel(f"its trial run failed: {lines[-1][:300]}", where=where, hint=_HINT)


def _by_code(root: type[AgentError]) -> dict[str, type[AgentError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _by_code(child)
    return found


def main(allowed: int) -> int:
    """The child: limits itself, reads the package from standard input, tries it."""
    from agent.registry.trial import try_model

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    try:
        files = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=dict[str, bytes])
        try_model(parse_manifest(files[MANIFEST]), files)
    except MemoryError:
        mebibytes = allowed // 2**20
        error = BadModel(
            f"its trial run takes more than the {mebibytes} MiB that it may", hint=_HINT
        )
        print(json.dumps(error.to_dict()), flush=True)
        return 1
    except AgentError as error:
        print(json.dumps(error.to_dict()), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

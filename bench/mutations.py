"""Ten thousand ways to spoil a package between the operator and the device: how many get through?

A device has version 1.0.0; version 1.1.0 is published with a targets role that needs two signatures.
Each trial spoils what is published (or what the device has on its disk), then lets the device
install and load. A trial is

- refused: an error of ours with a code, and the device still runs what it ran;
- harmless: what was loaded is byte for byte what was signed (a digit of a signature in upper case,
  a file that nobody reads);
- accepted: anything else was loaded; crashed: any other exception. Both must not happen.
"""

import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import AgentError
from agent.registry import VerifiedModel
from bench.report import Row, Table
from tests.fakes.tuf_repository import FakeRepository
from tests.support.fleet import DAY, NOW, Fleet, make_fleet

SHOWN_CRASHES = 5


@dataclass
class World:
    """What is there before each trial, as files in memory.

    Attributes:
        fleet: both sides; the device's directory is put back after each trial.
        current: the published repository.
        old: the same repository before the last publication.
        stranger: a repository of the same models and versions, with other keys.
        thin: the repository with one signature of two on its targets, and its snapshot and
            timestamp honestly signed: what a thief of those two keys can make.
        device: the device's files, before it saw the last publication.
        updated: the same after.
        signed: contents of each version, as they were signed.
    """

    fleet: Fleet
    current: dict[str, bytes]
    old: dict[str, bytes]
    stranger: dict[str, bytes]
    thin: dict[str, bytes]
    device: dict[str, bytes]
    updated: dict[str, bytes]
    signed: dict[str, dict[str, bytes]]


@dataclass
class Trial:
    """One attempt: what the device will read, to be spoilt.

    Attributes:
        files: the repository.
        disk: the device's own.
        now: what the device's clock says.
        install: False where the device only loads what it has.
    """

    files: dict[str, bytes]
    disk: dict[str, bytes]
    now: float = NOW
    install: bool = True


@dataclass
class Outcome:
    """What was counted, by kind of mutation and by code."""

    refused: Counter[str] = field(default_factory=Counter)
    harmless: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    crashed: int = 0


Mutator = Callable[[World, Trial, random.Random], None]


def run(quick: bool) -> Table:
    """10,000 refusals, or 300 when `quick`."""
    wanted = 300 if quick else 10_000
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-mutations-", dir=_memory()) as directory:
        outcome = measure(Path(directory), wanted, seed=1)
    kinds = ", ".join(f"{name} {count}" for name, count in outcome.refused.most_common())
    codes = ", ".join(f"{code} {count}" for code, count in outcome.codes.most_common())
    return Table(
        f"{outcome.refused.total():,} mutated packages refused",
        [
            _zero("accepted", outcome.accepted),
            _zero("crashed", outcome.crashed),
            Row("harmless: the signed bytes were loaded", outcome.harmless.total(), "trials"),
            Row("seconds", time.monotonic() - began, "s"),
        ],
        [
            f"Refused, by kind: {kinds}.",
            f"By code: {codes}.",
            f"Harmless, by kind: {dict(outcome.harmless.most_common())}.",
        ],
    )


def _zero(name: str, value: int) -> Row:
    return Row(name, value, "trials", target="0", ok=value == 0)


def _memory() -> str | None:
    """The disk is not what is measured."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def measure(directory: Path, wanted: int, seed: int) -> Outcome:
    """Try until so many were refused; all of it follows from `seed`."""
    world, outcome, draw = build(directory), Outcome(), random.Random(seed)
    kinds = list(MUTATORS)
    while outcome.refused.total() < wanted:
        kind = draw.choice(kinds)
        trial = Trial(dict(world.current), dict(world.device))
        MUTATORS[kind](world, trial, draw)
        attempt(world, trial, kind, outcome)
    return outcome


def build(directory: Path) -> World:
    """Sign everything once."""
    fleet = make_fleet(directory / "fleet")
    stranger = make_fleet(directory / "stranger")
    fleet.publish("1.0.0")
    fleet.install()
    old, device = fleet.source().files, read_tree(fleet.models)
    fleet.repository.add_key("targets")
    fleet.repository.set_threshold("targets", 2)
    fleet.publish("1.1.0")
    fleet.install()
    for version in ("1.0.0", "1.1.0"):
        stranger.publish(version)
    packages = directory / "fleet" / "packages" / "negator"
    signed = {v.name: {f.name: f.read_bytes() for f in v.iterdir()} for v in packages.iterdir()}
    current, strangers = fleet.source().files, stranger.source().files
    updated = read_tree(fleet.models)
    return World(fleet, current, old, strangers, thin(fleet), device, updated, signed)


def thin(fleet: Fleet) -> dict[str, bytes]:
    """The repository after a thief of the snapshot and timestamp keys dropped a signature."""
    from tuf.api.metadata import Metadata, MetaFile, Snapshot

    store = fleet.repository.metadata
    snapshot: Metadata[Snapshot] = store.snapshot()
    version = snapshot.signed.meta["targets.json"].version + 1
    targets = store.targets()
    targets.signed.version = version
    store.sign(targets, "targets", [store.root().signed])
    targets.signatures.popitem()
    data = targets.to_bytes()
    snapshot.signed.meta["targets.json"] = MetaFile.from_data(version, data, ["sha256"])
    shutil.copytree(fleet.address, f"{fleet.address}.kept")
    store.commit_snapshot(snapshot)
    files = fleet.source().files | {f"metadata/{version}.targets.json": data}
    shutil.rmtree(fleet.address)
    Path(f"{fleet.address}.kept").rename(fleet.address)
    return files


def attempt(world: World, trial: Trial, kind: str, outcome: Outcome) -> None:
    """Let the device install what is published and load what it then has."""
    fleet = world.fleet
    write_tree(fleet.models, trial.disk)
    fleet.clock.now = trial.now
    registry, code = fleet.restarted(), ""
    try:
        if trial.install:
            registry.install(FakeRepository(trial.files), "negator")
    except AgentError as error:
        code = error.code
    except Exception as error:  # noqa: BLE001 - a crash is what is looked for
        return _crashed(outcome, kind, error)
    try:
        loaded: VerifiedModel | None = registry.open("negator")
    except AgentError as error:
        loaded, code = None, error.code
    except Exception as error:  # noqa: BLE001
        return _crashed(outcome, kind, error)
    _judge(world, loaded, kind, code, outcome)
    return None


def _judge(
    world: World, loaded: VerifiedModel | None, kind: str, code: str, outcome: Outcome
) -> None:
    if loaded is not None and dict(loaded.files) != world.signed[loaded.ref.version]:
        print(f"accepted: {kind}")
        outcome.accepted += 1
    elif code:
        outcome.refused[kind] += 1
        outcome.codes[code] += 1
    else:
        outcome.harmless[kind] += 1


def _crashed(outcome: Outcome, kind: str, error: Exception) -> None:
    outcome.crashed += 1
    if outcome.crashed <= SHOWN_CRASHES:
        print(f"crashed: {kind}: {type(error).__name__}: {error}")


# Mutators: each spoils one thing.


def flip(_world: World, trial: Trial, draw: random.Random) -> None:
    _on_one(trial.files, read_by_the_device(trial.files), draw, _flipped)


def truncate(_world: World, trial: Trial, draw: random.Random) -> None:
    names = read_by_the_device(trial.files)
    _on_one(trial.files, names, draw, lambda data, d: data[: d.randrange(len(data))])


def zero_fill(_world: World, trial: Trial, draw: random.Random) -> None:
    _on_one(trial.files, read_by_the_device(trial.files), draw, _zeroed)


def splice(_world: World, trial: Trial, draw: random.Random) -> None:
    _on_one(trial.files, read_by_the_device(trial.files), draw, _spliced)


def swap(_world: World, trial: Trial, draw: random.Random) -> None:
    one, two = draw.sample(read_by_the_device(trial.files), 2)
    trial.files[one], trial.files[two] = trial.files[two], trial.files[one]


def remove(_world: World, trial: Trial, draw: random.Random) -> None:
    del trial.files[draw.choice(read_by_the_device(trial.files))]


def change_a_value(_world: World, trial: Trial, draw: random.Random) -> None:
    """Still JSON, still the right shape: a number, a name, a digest, a date is another."""
    names = [name for name in read_by_the_device(trial.files) if name.startswith("metadata/")]
    _on_one(trial.files, names, draw, _with_another_value)


def replay_a_file(world: World, trial: Trial, draw: random.Random) -> None:
    newest = [n for n in read_by_the_device(trial.files) if n.startswith("metadata/")]
    trial.files[draw.choice(newest)] = world.old[draw.choice(sorted(world.old))]


def replay_everything(world: World, trial: Trial, draw: random.Random) -> None:
    """What was current once, after the device saw what came later; its cache lost or not."""
    trial.files, trial.disk = dict(world.old), dict(world.updated)
    for name in [n for n in trial.disk if n.startswith("metadata/")]:
        if draw.random() < 0.5:
            del trial.disk[name]


def expire(_world: World, trial: Trial, draw: random.Random) -> None:
    trial.now = NOW + draw.uniform(30, 30_000) * DAY


def sign_with_other_keys(world: World, trial: Trial, draw: random.Random) -> None:
    names = sorted(set(world.stranger) & set(read_by_the_device(trial.files)))
    roles = ["timestamp.json", *draw.sample(names, draw.randrange(len(names)))]
    for name in names:
        if any(name.endswith(role) for role in roles):
            trial.files[name] = world.stranger[name]


def appoint_a_root(world: World, trial: Trial, draw: random.Random) -> None:
    root = json.loads(world.stranger["metadata/1.root.json"])
    root["signed"]["version"] = draw.choice([1, 3, 4, 2**31])
    newest = 1 + max(int(n.split("/")[1].split(".")[0]) for n in trial.files if "root.json" in n)
    trial.files[f"metadata/{newest}.root.json"] = json.dumps(root).encode()


def sign_below_the_threshold(world: World, trial: Trial, draw: random.Random) -> None:
    trial.files = dict(world.thin)
    if draw.random() < 0.5:
        _on_one(trial.files, read_by_the_device(trial.files), draw, _flipped)


def spoil_the_disk(_world: World, trial: Trial, draw: random.Random) -> None:
    """A file that every load reads, and no second copy of it."""
    trial.install = False
    blobs = [name for name in trial.disk if name.startswith("blobs/")]
    damage = draw.choice(
        [_flipped, _zeroed, _spliced, lambda data, d: data[: d.randrange(len(data))]]
    )
    _on_one(trial.disk, blobs, draw, damage)
    for name in [n for n in trial.disk if n.startswith("metadata/")]:
        del trial.disk[name]


MUTATORS: dict[str, Mutator] = {
    mutator.__name__.replace("_", " "): mutator
    for mutator in (
        flip, truncate, zero_fill, splice, swap, remove, change_a_value, replay_a_file,
        replay_everything, expire, sign_with_other_keys, appoint_a_root, sign_below_the_threshold,
        spoil_the_disk,
    )
}  # fmt: skip


def read_by_the_device(files: dict[str, bytes]) -> list[str]:
    """What the newest metadata leads to; older files lie there and nobody asks for them."""
    newest = json.loads(files["metadata/timestamp.json"])["signed"]["meta"]["snapshot.json"]
    snapshot = f"metadata/{newest['version']}.snapshot.json"
    targets = json.loads(files[snapshot])["signed"]["meta"]["targets.json"]["version"]
    names = ["metadata/timestamp.json", snapshot, f"metadata/{targets}.targets.json"]
    names += [f"metadata/{n}.root.json" for n in (2, 3) if f"metadata/{n}.root.json" in files]
    version = "1.1.0" if any("/negator/1.1.0/" in name for name in files) else "1.0.0"
    return names + sorted(name for name in files if f"/negator/{version}/" in name)


def _on_one(
    files: dict[str, bytes],
    names: list[str],
    draw: random.Random,
    change: Callable[[bytes, random.Random], bytes],
) -> None:
    name = draw.choice(names)
    files[name] = change(files[name], draw)


def _flipped(data: bytes, draw: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 8])):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def _zeroed(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data))
    end = draw.randint(start + 1, len(data))
    return data[:start] + bytes(end - start) + data[end:]


def _spliced(data: bytes, draw: random.Random) -> bytes:
    cut, there = draw.randrange(len(data)), draw.randrange(len(data))
    return data[:cut] + draw.randbytes(draw.randrange(1, 40)) + data[there:]


def _with_another_value(data: bytes, draw: random.Random) -> bytes:
    document = json.loads(data)
    places = list(_places(document["signed"]))
    parent, key = draw.choice(places)
    parent[key] = _another(parent[key], draw)
    return json.dumps(document).encode()


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        if isinstance(item, dict | list) and item:
            yield from _places(item)
        else:
            yield value, key


def _another(value: Any, draw: random.Random) -> Any:
    odd = [None, -1, 0, 2**63, 1.5, "", "x", [], {}, True, "2099-01-01T00:00:00Z", "0" * 64, [[]]]
    return draw.choice([item for item in odd if item != value])


def read_tree(directory: Path) -> dict[str, bytes]:
    """Every file by its path; links are followed, as far as the client's own root goes."""
    paths = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def write_tree(directory: Path, files: dict[str, bytes]) -> None:
    """Exactly these files."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

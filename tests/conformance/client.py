#!/usr/bin/env python3
"""The client that the TUF conformance suite asks for, over the agent's own trust room.

https://github.com/theupdateframework/tuf-conformance, CLIENT-CLI.md. The source, the TUF client and
the download by content are what runs on a device.

    pytest tuf_conformance --entrypoint="$PWD/tests/conformance/client.py"

in the project's environment. `client.py.xfails` lists what is out of scope.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agent.errors import AgentError, NotFound
from agent.registry.blobs import BlobStore
from agent.trust.source import Source
from agent.trust.updater import Client
from agent.trust.web import WebLimits, WebSource


class TwoPlaces(Source):
    """The suite's server, which has metadata and targets at two addresses."""

    def __init__(self, metadata: str, targets: str) -> None:
        limits = WebLimits(pause_s=0.01)
        self._places = {
            kind: WebSource(url, limits=limits)
            for kind, url in (("metadata", metadata), ("targets", targets))
            if url
        }

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        kind, _, rest = path.partition("/")
        return self._places[kind].read(rest, offset)


def refreshed(arguments: argparse.Namespace) -> tuple[Client, Source]:
    """A client that took in what the repository says now."""
    source = TwoPlaces(arguments.metadata_url, arguments.target_base_url or "")
    root = provisioned(arguments.metadata_dir).read_bytes()
    # The clock alone: the horizon is the registry's, and the suite's repositories are of the past.
    return Client(source, arguments.metadata_dir, root, time.time()), source


def provisioned(directory: Path) -> Path:
    """Beside the metadata, where the suite does not look."""
    return directory.with_name(f"{directory.name}.provisioned.json")


def download(arguments: argparse.Namespace) -> None:
    """Fetch targets by content, then show them under a name of their own."""
    client, source = refreshed(arguments)
    blobs = BlobStore(arguments.target_dir.with_name(f"{arguments.target_dir.name}.store"))
    for path in arguments.target_name:
        target = client.find(path)
        if target is None:
            raise NotFound("no role lists it", where=path)
        blobs.fetch(source, [target])
        name = arguments.target_dir / quote(path, safe="")
        data = blobs.read(target.sha256, target.size)
        if not name.exists() or name.read_bytes() != data:
            name.write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-url")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--target-name", action="append")
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    arguments = parser.parse_args()
    try:
        if arguments.command == "init":
            shutil.copyfile(arguments.trusted_root, provisioned(arguments.metadata_dir))
            shutil.copyfile(arguments.trusted_root, arguments.metadata_dir / "root.json")
        elif arguments.command == "refresh":
            refreshed(arguments)
        else:
            download(arguments)
    except AgentError as error:
        print(f"{error} [{error.code}]", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

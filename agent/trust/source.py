"""Where a repository is read from: the one seam between trust and the world.

A source hands out bytes and vouches for nothing. The TUF client and the downloader both read
through it, so that a directory, a web server and a broker differ in one class each.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agent.errors import AgentError, BadConfig, NotFound, NotReachable

CHUNK_BYTES = 1 << 20
EXPORTED = "edge-agent-repository"  # on a USB stick, the directory that holds the repository


class Source(ABC):
    """A repository's files by path, ``metadata/…`` and ``targets/…``."""

    @abstractmethod
    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """The file's bytes from `offset` on, in chunks of at most a few MiB.

        Raises:
            NotFound: the repository has no such file.
            NotReachable: the repository cannot be read now.
        """


class DirectorySource(Source):
    """A repository in a directory: a USB stick, a mounted share, a folder beside the agent."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        try:
            with (self._directory / inside(path)).open("rb") as file:
                file.seek(offset)
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: str, error: OSError) -> AgentError:
        if not self._directory.is_dir():
            hint = "Is the USB stick mounted?"
            return NotReachable("no such directory", where=str(self._directory), hint=hint)
        if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
            where = str(self._directory / path)
            return NotFound("the repository has no such file", where=where)
        return NotReachable(f"cannot be read: {error.strerror}", where=str(self._directory / path))


def open_source(
    repository: str | Source,
    *,
    ca_file: Path | None = None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
) -> Source:
    """The source that an address names: a directory's path, ``file://…``, ``https://…``, ``http://…``.

    A source stands for itself. A broker's address is not known here: its connection has a life of
    its own (`sync.download`).

    Args:
        repository: the address.
        ca_file: for a web server, as the two below; see `WebSource`.
        certificate_file: the device's own.
        key_file: the certificate's.

    Raises:
        BadConfig: the address has a scheme that is not known, or a certificate cannot be read.
    """
    if isinstance(repository, Source):
        return repository
    parts = urlsplit(repository)
    if parts.scheme == "file" and not parts.netloc:
        return DirectorySource(_repository_in(Path(unquote(parts.path))))
    if parts.scheme in {"https", "http"}:
        from agent.trust.web import WebSource

        return WebSource(
            repository, ca_file=ca_file, certificate_file=certificate_file, key_file=key_file
        )
    if parts.scheme and parts.netloc:
        hint = "Use a directory, file:///…, https://… or mqtt://…"
        raise BadConfig(f'the scheme "{parts.scheme}" is not known', where=repository, hint=hint)
    return DirectorySource(_repository_in(Path(repository)))


def _repository_in(directory: Path) -> Path:
    """The directory, or the repository that `edge-fleet export` put on the stick mounted there."""
    exported = directory / EXPORTED
    return directory if (directory / "metadata").exists() or not exported.exists() else exported


def inside(path: str) -> str:
    """A path as it is; paths come from metadata that may not be verified yet.

    Raises:
        NotFound: it leads out of the repository.
    """
    if path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise NotFound("the path leaves the repository", where=path[:200])
    return path

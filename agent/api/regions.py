"""Regions of shared memory that callers have registered.

A region is a POSIX shared memory object that belongs to the user who owns its file, or better an
anonymous one (memfd) whose descriptor the caller has passed. Nobody else can register it, and each
user has names of its own. Memory that its owner could make smaller is copied by system calls: if it
were mapped, that would end the whole daemon. Only a memfd that is sealed against shrinking is mapped,
and read where it is.
"""

import fcntl
import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from agent.api.answers import RegionEntry
from agent.api.callers import Caller
from agent.api.oip.shared import SharedRange
from agent.errors import BadRequest, BadTensor, Forbidden, NotFound, TooLarge, TooMany

MAX_REGIONS = 256  # of all users
MAX_USER_REGIONS = 64  # of one user
MAX_NAME = 128  # characters
MAX_TENSOR = 64 * 1024 * 1024  # bytes of one tensor; it is copied

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (this is what POSIX shared memory is)


@dataclass(frozen=True, slots=True)
class Region:
    """A registered region.

    Attributes:
        name: the caller's own.
        key: name of the shared memory object.
        offset: of the region within the object.
        size: bytes.
        descriptor: of the open object.
        mapping: the region itself, if its object cannot shrink.
    """

    name: str
    key: str
    offset: int
    size: int
    descriptor: int
    mapping: memoryview | None = None

    def status(self) -> RegionEntry:
        """The region as the protocol shows it."""
        return {
            "name": self.name,
            "key": self.key,
            "offset": self.offset,
            "byte_size": self.size,
        }


class Regions:
    """Every registered region, by user and name."""

    def __init__(self, directory: Path = SHARED_MEMORY) -> None:
        self._directory = directory
        self._regions: dict[tuple[int, str], Region] = {}
        # Models answer in threads: a descriptor must not be closed, and its number given to another
        # file, between finding and using it.
        self._lock = Lock()

    def register(self, caller: Caller, name: str, key: str, offset: int, size: int) -> None:
        """Make a part of a shared memory object known under a name.

        Raises:
            Forbidden: the object is another user's, or the kernel cannot tell who calls.
            NotFound: there is no such object.
            BadRequest: the name is taken, or the object is smaller than that.
            TooMany: there are too many regions.
        """
        uid = _user(caller)
        self._check_room(uid, name)
        descriptor = self._open(key)
        try:
            _check_object(os.fstat(descriptor), uid, key, offset + size)
        except BaseException:
            os.close(descriptor)
            raise
        self._regions[(uid, name)] = Region(name, key, offset, size, descriptor)

    def adopt(self, caller: Caller, name: str, descriptor: int, size: int) -> None:
        """Make anonymous shared memory known, whose descriptor the caller passed; it is ours then.

        Raises:
            BadRequest: it is no memfd, or smaller than that, or the name is taken.
            TooMany: there are too many regions.
        """
        try:
            uid = _user(caller)
            self._check_room(uid, name)
            mapping = _mapped(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        self._regions[(uid, name)] = Region(name, "", 0, size, descriptor, mapping)

    def unregister(self, caller: Caller, name: str | None) -> None:
        """Forget one region of the caller, or all of them. One that is not known is no error."""
        uid = _user(caller)
        with self._lock:
            for owner, known in list(self._regions):
                if owner == uid and name in {None, known}:
                    os.close(self._regions.pop((owner, known)).descriptor)

    def status(self, caller: Caller, name: str | None) -> list[RegionEntry]:
        """The caller's regions, or one of them.

        Raises:
            NotFound: the caller has no such region.
        """
        uid = _user(caller)
        if name is not None:
            return [self._find(uid, name).status()]
        return [region.status() for (owner, _), region in self._regions.items() if owner == uid]

    def of(self, caller: Caller) -> "CallersRegions":
        """What a request of the caller may read and write."""
        return CallersRegions(self, caller)

    def read(self, caller: Caller, place: SharedRange) -> bytes | memoryview:
        """See `oip.shared.Shared.read`."""
        with self._lock:
            region = self._within(caller, place)
            if region.mapping is not None:
                return region.mapping[place.offset : place.offset + place.size]
            data = os.pread(region.descriptor, place.size, region.offset + place.offset)
        if len(data) != place.size:
            raise BadTensor("the shared memory has become smaller", where=place.region)
        return data

    def write(self, caller: Caller, place: SharedRange, data: bytes | memoryview) -> None:
        """See `oip.shared.Shared.write`."""
        with self._lock:
            region = self._within(caller, place)
            start = region.offset + place.offset
            # Writing beyond the end would make the object larger.
            if os.fstat(region.descriptor).st_size < start + len(data):
                raise BadTensor("the shared memory has become smaller", where=place.region)
            try:
                os.pwrite(region.descriptor, data, start)
            except OSError as error:  # sealed, or opened for reading only
                raise BadTensor(
                    f"cannot be written: {error.strerror}", where=place.region
                ) from error

    def close(self) -> None:
        """Forget every region. Idempotent."""
        with self._lock:
            while self._regions:
                os.close(self._regions.popitem()[1].descriptor)

    def _find(self, uid: int, name: str) -> Region:
        region = self._regions.get((uid, name))
        if region is None:
            raise NotFound("no such shared memory region is registered", where=name)
        return region

    def _within(self, caller: Caller, place: SharedRange) -> Region:
        region = self._find(_user(caller), place.region)
        if place.size > MAX_TENSOR:
            raise TooLarge(f"a tensor has at most {MAX_TENSOR >> 20} MiB", where=place.region)
        if place.offset + place.size > region.size:
            raise BadTensor(
                f"bytes {place.offset} to {place.offset + place.size} are not within the region's "
                f"{region.size}",
                where=place.region,
            )
        return region

    def _check_room(self, uid: int, name: str) -> None:
        if (uid, name) in self._regions:
            raise BadRequest("the region is registered already", where=name)
        if not name or len(name) > MAX_NAME:
            raise BadRequest(f"a region's name has 1 to {MAX_NAME} characters", where=name[:40])
        mine = sum(owner == uid for owner, _ in self._regions)
        if mine >= MAX_USER_REGIONS or len(self._regions) >= MAX_REGIONS:
            raise TooMany(
                f"{MAX_USER_REGIONS} regions of a user, {MAX_REGIONS} of all, are the most"
            )

    def _open(self, key: str) -> int:
        name = key.removeprefix("/")
        if not name or "/" in name or "\0" in name or name in {".", ".."} or len(name) > 255:
            raise BadRequest("is not the name of a shared memory object", where=f"key {key[:60]!r}")
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            return os.open(self._directory / name, flags)
        except FileNotFoundError:
            raise NotFound("there is no such shared memory object", where=f"key {key}") from None
        except OSError as error:
            raise Forbidden(f"cannot be opened: {error.strerror}", where=f"key {key}") from error


@dataclass(frozen=True, slots=True)
class CallersRegions:
    """The regions of one caller; fits `oip.shared.Shared`."""

    regions: Regions
    caller: Caller

    def read(self, place: SharedRange) -> bytes | memoryview:
        """See `oip.shared.Shared.read`."""
        return self.regions.read(self.caller, place)

    def write(self, place: SharedRange, data: bytes | memoryview) -> None:
        """See `oip.shared.Shared.write`."""
        self.regions.write(self.caller, place, data)


def _user(caller: Caller) -> int:
    if caller.uid < 0:
        raise Forbidden(
            "shared memory is for callers whose user the kernel knows", hint="Use the Unix socket"
        )
    return caller.uid


def _check_object(found: os.stat_result, uid: int, key: str, end: int) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != uid:
        raise Forbidden("the shared memory is not the caller's own", where=f"key {key}")
    if end > found.st_size:
        raise BadRequest(f"the object has {found.st_size} bytes, not {end}", where=f"key {key}")


def _mapped(descriptor: int, size: int) -> memoryview | None:
    """The memory of a memfd, if nobody can make it smaller.

    Raises:
        BadRequest: it is no memfd, or smaller than that.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        # A file on a disk or a network could keep a read waiting.
        raise BadRequest("is no anonymous memory (memfd_create)", where="descriptor") from None
    found = os.fstat(descriptor).st_size
    if size > found:
        raise BadRequest(f"the memory has {found} bytes, not {size}", where="descriptor")
    if not seals & fcntl.F_SEAL_SHRINK:
        return None
    try:
        return memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))
    except OSError as error:
        raise BadRequest(f"cannot be mapped: {error.strerror}", where="descriptor") from error

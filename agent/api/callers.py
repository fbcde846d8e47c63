"""Who calls, as the kernel says, and what they may do."""

import grp
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

from agent.api.rates import Account
from agent.api.settings import ApiSettings
from agent.errors import BadConfig


class Role(IntEnum):
    """What a caller may do; each role may do what the lower ones may."""

    NONE = 0
    VIEWER = 1  # look
    APP = 2  # infer, submit readings
    OPERATOR = 3  # load and unload models


@dataclass(frozen=True, slots=True)
class Caller:
    """The process at the other end of a connection, when it connected.

    Attributes:
        uid: its user.
        gid: its group.
        pid: its process; 0 when it is outside our process namespace.
        role: what it may do.
        account: what this user, or this token, has under way on all its connections.
    """

    uid: int
    gid: int
    pid: int
    role: Role
    account: Account = field(default_factory=Account, compare=False, repr=False)


class Roles:
    """Maps users to roles. The highest role that a user or one of its groups is given counts.

    Root and the daemon's own user are operators: both can replace the daemon anyway.
    """

    def __init__(self, settings: ApiSettings) -> None:
        self._own = {0, os.geteuid()}
        self._default = Role[settings.default_role.upper()]
        self._users: dict[int, Role] = {}
        self._groups: dict[int, Role] = {}
        self._give(settings.viewers, Role.VIEWER, "viewers")
        self._give(settings.apps, Role.APP, "apps")
        self._give(settings.operators, Role.OPERATOR, "operators")

    def privileged(self, uid: int) -> bool:
        """Whether the user is root or the daemon's own."""
        return uid in self._own

    def role(self, uid: int, gid: int) -> Role:
        """The role of a user whose process runs with this group."""
        if uid in self._own:
            return Role.OPERATOR
        if not self._users and not self._groups:
            return self._default
        given = [self._users.get(uid, Role.NONE)]
        if self._groups:
            given += [self._groups.get(group, Role.NONE) for group in _groups(uid, gid)]
        return max(given) or self._default

    def _give(self, names: Sequence[str], role: Role, where: str) -> None:
        for name in names:
            if name.startswith("@"):
                self._groups[group_id(name[1:], where)] = role
            else:
                self._users[user_id(name, where)] = role


def user_id(name: str, where: str) -> int:
    """The number of a user given by name or number.

    Raises:
        BadConfig: there is no such user.
    """
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise BadConfig(f'there is no user "{name}"', where=where) from None


def group_id(name: str, where: str) -> int:
    """The number of a group given by name or number.

    Raises:
        BadConfig: there is no such group.
    """
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise BadConfig(f'there is no group "{name}"', where=where) from None


@lru_cache(maxsize=256)
def _groups(uid: int, gid: int) -> tuple[int, ...]:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a user of a container, known by number only
        return (gid,)
    return (gid, *os.getgrouplist(name, gid))

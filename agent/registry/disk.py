"""The registry's state on the disk: two copies, and the root that the device was given."""

import logging
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from agent.registry import state as states
from agent.registry.layout import write_atomically
from agent.registry.state import State

_log = logging.getLogger(__name__)


class StateFiles:
    """`state.json`, `state.copy.json` and `root.json` in a directory.

    Attributes:
        root: path of the provisioned root.
        copies: paths of the two copies, in the order in which a commit replaces them.
    """

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root.json"
        self.copies = (directory / "state.json", directory / "state.copy.json")

    def read(self) -> State:
        """The newest whole copy; an empty state where there is none, so that a device can be mended."""
        found = [state for state in map(self.read_copy, self.copies) if state is not None]
        if found:
            return max(found, key=lambda state: state.generation)
        root = self.read_root()
        return State(provisioned=root, root=root)

    def read_root(self) -> str:
        """The root that the device was given; empty when there is none, or none that can be read."""
        with suppress(OSError, UnicodeDecodeError):
            return self.root.read_text()
        return ""

    @staticmethod
    def read_copy(path: Path) -> State | None:
        """One copy; None when it is missing or damaged in any way."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("cannot read a copy of the registry's state: %s", error)
            return None
        state = states.decode(data)
        if state is None:
            _log.warning("a copy of the registry's state is damaged: %s", path)
        return state

    def commit(self, state: State) -> State:
        """Replace both copies; the state as it was written. Raises StorageFailed."""
        state = replace(state, generation=state.generation + 1)
        for copy in self.copies:
            write_atomically(copy, states.encode(state))
        return state

"""The three commands as click knows them: every subcommand and option, for tests of what they say."""

from collections.abc import Iterator
from dataclasses import dataclass

import click

from agent.cli import cli as agent
from tools.fleet.cli import cli as fleet
from tools.quantize.cli import cli as quantize

PROGRAMS: dict[str, click.Group] = {
    "edge-agent": agent,
    "edge-fleet": fleet,
    "edge-quantize": quantize,
}


@dataclass(frozen=True)
class Called:
    """A command as it is typed."""

    name: str
    command: click.Command
    context: click.Context

    @property
    def options(self) -> list[click.Option]:
        """What can be seen of its options."""
        found = self.command.get_params(self.context)
        return [one for one in found if isinstance(one, click.Option) and not one.hidden]

    @property
    def names(self) -> set[str]:
        """Its options' names, long and short."""
        return {name for option in self.options for name in (*option.opts, *option.secondary_opts)}

    def children(self) -> "Iterator[Called]":
        """The commands below it."""
        if isinstance(self.command, click.Group):
            for name in self.command.list_commands(self.context):
                found = self.command.get_command(self.context, name)
                assert found is not None
                yield _called(f"{self.name} {name}", name, found, self.context)

    def everything(self) -> "Iterator[Called]":
        """It and all below it."""
        yield self
        for child in self.children():
            yield from child.everything()


def program(name: str) -> Called:
    """One of the three by its name."""
    return _called(name, name, PROGRAMS[name], None)


def _called(full: str, name: str, command: click.Command, parent: click.Context | None) -> Called:
    context = click.Context(command, parent=parent, info_name=name, **command.context_settings)
    return Called(full, command, context)

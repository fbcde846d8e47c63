"""The command group: names and one-line helps in a table, code imported on use."""

import importlib
from typing import Any

import click

from agent import __version__

#: name -> (module:attribute, one line for the overview)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("agent.cli.demo:demo", "See the main job: a pump, a signed model, a warning, MQTT."),
    "init": ("agent.cli.init:init", "Write a commented configuration for a new device."),
    "run": ("agent.cli.run:run", "Run the daemon."),
    "status": ("agent.cli.status:status", "Show what a running daemon does."),
    "infer": ("agent.cli.infer:infer", "Run a model of the daemon on a file or values."),
    "models": ("agent.cli.models:models", "Install, list, verify, activate and remove models."),
    "chat": ("agent.cli.chat:chat", "Talk with a language model of a running daemon."),
    "embed": ("agent.cli.embed:embed", "Turn texts into vectors with a model of the daemon."),
    "classify": (
        "agent.cli.classify:classify",
        "Say what texts are about with a model of the daemon.",
    ),
    "transcribe": (
        "agent.cli.transcribe:transcribe",
        "Write down what is said, with a model of the daemon.",
    ),
    "replay": ("agent.cli.replay:replay", "Send a recording, or standard input, to a daemon."),
    "outbox": (
        "agent.cli.outbox:outbox",
        "Look at what the device still owes the cloud, or drain it.",
    ),
    "enroll": ("agent.cli.enroll:enroll", "Get this device a certificate of its own."),
    "token": ("agent.cli.token:token", "Make a token for a caller over TCP."),
    "doctor": (
        "agent.cli.doctor:doctor",
        "Say what is missing on this machine and how to mend it.",
    ),
}


class LazyGroup(click.Group):
    """A group that knows its commands' helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-agent")
def cli(**_: Any) -> None:
    """Run quantized, signed models on edge hardware; sync with the cloud over MQTT."""

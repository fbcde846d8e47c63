"""`edge-quantize`: one subcommand for each family of models.

Exit statuses are those of edge-agent. A subcommand's code is imported when it is called.
"""

import importlib

import click

from agent import __version__
from agent.cli import run_command

#: name -> (module:attribute, one line for the overview)
FAMILIES: dict[str, tuple[str, str]] = {
    "language": (
        "tools.quantize.language.command:language",
        "A small language model, to int4 for onnxruntime-genai.",
    ),
    "encoder": (
        "tools.quantize.encoder.command:encoder",
        "An encoder of text, to int8 with its tokenizer.",
    ),
    "whisper": (
        "tools.quantize.whisper.command:whisper",
        "A Whisper, to int8 for CTranslate2.",
    ),
    "onnx": ("tools.quantize.onnx.command:onnx", "A model in ONNX, to int8 or int4 weights."),
    "torch": ("tools.quantize.onnx.command:torch", "A torch state dict with a builder, by ONNX."),
    "tflite": ("tools.quantize.tflite.command:tflite", "TensorFlow Lite, quantized already."),
}


class Families(click.Group):
    """A group that knows its commands' helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(FAMILIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in FAMILIES:
            return None
        module, _, attribute = FAMILIES[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Families"):
            formatter.write_dl([(name, text) for name, (_, text) in FAMILIES.items()])


@click.group(cls=Families, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-quantize")
def cli() -> None:
    """Make a model small, prove that it is as good, and package it for edge-agent."""


def main() -> None:
    """Run the command line."""
    run_command(cli, "edge-quantize")

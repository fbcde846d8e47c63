"""Options of every subcommand whose models take and give plain tensors."""

from collections.abc import Callable
from typing import Any

import click

from tools.quantize.tensors.metrics import METRICS


def tensor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a subcommand `--metric` and `--task`."""
    metric = click.option(
        "--metric",
        type=click.Choice([*METRICS, ""]),
        default="",
        metavar="NAME",
        help=f"What is judged by: {', '.join(METRICS)}.  [default: what the set allows]",
    )
    task = click.option(
        "--task",
        default="tensor",
        metavar="NAME",
        show_default=True,
        help="Task in the manifest: what the model means.",
    )
    return metric(task(command))

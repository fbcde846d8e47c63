"""`edge-agent run`: the daemon."""

import os
from pathlib import Path

import click

from agent.cli.options import config_option, find_config


@click.command()
@config_option
def run(config_path: Path | None) -> None:
    """Run the daemon until SIGTERM or SIGINT; a second signal stops it at once."""
    from agent.app import serve
    from agent.config.read import load

    serve(load(find_config(config_path), os.environ))

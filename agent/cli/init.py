"""`edge-agent init`: a commented configuration for a new device."""

from pathlib import Path

import click

from agent.errors import BadConfig


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--id", "device_id", help="The device's name in topics.  [default: the host name]")
@click.option(
    "--broker",
    default="",
    help="The cloud's broker, for example mqtts://broker:8883.  [default: none]",
)
@click.option("--system", is_flag=True, help="Use the system's places: /var/lib and /run.")
def init(directory: Path, device_id: str | None, broker: str, system: bool) -> None:
    """Write DIRECTORY/edge-agent.toml. Nothing that exists is overwritten."""
    from agent.config.read import parse
    from agent.config.template import starter

    path = directory / "edge-agent.toml"
    text = starter(device_id=device_id or "", broker=broker, system=system)
    parse(text, where="the new configuration")  # a name or broker that cannot be is refused here
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise BadConfig("exists already and is left as it is", where=str(path)) from error
    except OSError as error:
        raise BadConfig(f"cannot be written: {error.strerror}", where=str(path)) from error
    click.echo(f"Wrote {path}")
    click.echo(f"Next: edge-agent doctor --config {path}")
    click.echo(f"Then: edge-agent run --config {path}")

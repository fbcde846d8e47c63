"""`edge-agent demo`: the main job on one screen, with a real daemon and an embedded broker.

Owns a scratch device and everything around it: a development trust root, the cloud's side, the
recording that is replayed and the view. Never a rule of the agent itself: whatever the demo shows,
the daemon did, in a process of its own, reached only as its users reach it.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from agent.cli.options import json_option
from agent.errors import EngineMissing

SMALLEST = (78, 23)  # columns and rows of a terminal that the view fits on

#: What a plain installation of the agent may lack.
LIBRARIES = ("amqtt", "onnxruntime", "rich")


@click.command()
@click.option(
    "--recording",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Replay this CSV file.  [default: a simulated pump]",
)
@click.option(
    "--time-column", default="", help="Column with the recording's time.  [default: guessed]"
)
@click.option(
    "--label-column",
    multiple=True,
    help="Column that says what is wrong; kept from the model; may be repeated.  [default: guessed]",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Make the device here and keep it.  [default: a scratch directory]",
)
@click.option(
    "--broker",
    metavar="mqtt://HOST[:PORT]",
    help="Use this MQTT broker.  [default: an embedded one]",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.1),
    metavar="FACTOR",
    help="Seconds of the recording in one second.  [default: as fits a minute]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Of the simulated pump.",
)
@click.option("--plain", is_flag=True, help="Lines instead of a screen, as when piped.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    hidden=True,
    help="Save the most telling screen as SVG.",
)
@json_option
def demo(
    *,
    recording: Path | None,
    time_column: str,
    label_column: tuple[str, ...],
    home: Path | None,
    broker: str | None,
    speed: float | None,
    seed: int,
    plain: bool,
    picture: Path | None,
    as_json: bool,
) -> int:
    """See the main job in about a minute: sensors, a signed model, a warning, MQTT.

    A device is made in a scratch directory, with a trust root of its own. It learns what is normal
    for a pump, loses its broker, warns all the same, and ends with an account of every message.
    """
    require(LIBRARIES)
    from agent.cli.demo.run import Options, run

    return run(
        Options(
            recording=recording,
            time_column=time_column,
            label_columns=label_column,
            home=home,
            broker=broker,
            speed=speed,
            seed=seed,
            terminal=not plain and not as_json and is_canvas(),
            as_json=as_json,
            picture=picture,
        )
    )


def is_canvas() -> bool:
    """Whether standard output is a terminal that the view fits on; else it is lines."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    columns, rows = shutil.get_terminal_size()
    return columns >= SMALLEST[0] and rows >= SMALLEST[1]


def require(libraries: Iterable[str]) -> None:
    """Raise EngineMissing, with the command that mends it, when one of the libraries is absent."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineMissing(
            f"the demo needs {', '.join(missing)}", hint="pip install 'edge-agent[onnx,demo]'"
        )

"""The live view's canvas: the whole terminal while the demo runs, or a picture of it."""

import io
import math
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live

from agent.cli.demo.scene import Scene
from agent.cli.demo.screen import draw

PICTURE = (100, 30)  # characters
LAST_ROWS = 26  # of the last screen, which stays above the summary
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class Painter:
    """A stage that draws scenes.

    While it is open it owns the terminal: whatever else writes to standard output or error is
    shown above the view instead of through it. The terminal is given back however it ends, with the
    last screen left standing when it ends well.
    """

    def __init__(self, picture: Path | None, *, live: bool) -> None:
        console = Console() if live else Console(file=io.StringIO())
        self._live = Live(console=console, screen=live, auto_refresh=False, transient=True)
        self._picture = picture
        self._most_telling = -math.inf
        self._last: Scene | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        if self._last is not None and self._live.console.is_terminal and error is None:
            self._live.console.print(draw(self._last, self._live.console.width, LAST_ROWS))

    def show(self, scene: Scene) -> None:
        """Draw the scene; keep it as the picture when it tells more than those before."""
        self._last = scene
        width, height = self._live.console.size
        self._live.update(draw(scene, width, height), refresh=True)
        telling = scene.score if scene.warning is not None and not scene.link_up else -math.inf
        if self._picture is not None and telling > self._most_telling:
            self._most_telling = telling
            self._picture.write_text(svg(scene))


def svg(scene: Scene) -> str:
    """The scene as a picture of a terminal, with no address in it to fetch fonts from."""
    width, height = PICTURE
    console = Console(
        width=width, height=height, record=True, file=io.StringIO(), color_system="truecolor"
    )
    console.print(draw(scene, width, height, solid=True))
    drawing = FONT_FACE.sub("", console.export_svg(title="edge-agent demo"))
    return drawing.replace("Fira Code", "ui-monospace, DejaVu Sans Mono, Menlo, Consolas")

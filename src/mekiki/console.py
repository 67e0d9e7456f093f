"""Output of the commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


Progress = Callable[[str, int, int], None]
"""Progress callback: what is being done, how many are done, how many there are (bytes, files, images, batches)."""


def silent(what: str, done: int, total: int) -> None:
    """Show no progress: the default wherever a `Progress` is taken."""


BAR_DELAY_S = 0.5
"""Work that takes less has no progress bar."""


def out() -> Console:
    """The console for results."""
    from rich.console import Console

    # In a file or a pipe nothing is cut to the width of a screen.
    width = None if sys.stdout.isatty() else 160
    # No markup: a folder may be called [bold], and a class :tada:.
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)


def err() -> Console:
    """The console for progress, warnings and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def styled_text(*pieces: tuple[str, str] | str) -> Text:
    """Text put together from pieces, each plain or with a style."""
    from rich.text import Text

    return Text.assemble(*pieces)


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    title: str | None = None,
    show_headings: bool = True,
) -> None:
    """Print a table without borders on standard output.

    Args:
        headings: one for each column.
        rows: the cells.
        right: headings of the columns that are aligned right, as numbers are.
        title: above the table.
        show_headings: print them.

    Example:
        >>> print_table(("state", "files"), [("whole", "7"), ("missing", "12")], right=("files",))
        state    files
        whole        7
        missing     12
    """
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", show_header=show_headings, box=None, padding=(0, 2, 0, 0)
    )
    for column, heading in enumerate(headings):
        aligned_right = heading in right
        justify: Literal["left", "right"] = "right" if aligned_right else "left"
        table.add_column(heading, justify=justify, no_wrap=aligned_right or column == 0)
    for row in rows:
        table.add_row(*row)
    out().print(table)


def line(word: str, text: str, style: str) -> None:
    """Print `word: text` as one line on standard error; line breaks inside the text become spaces."""
    err().print(styled_text((f"{word}: ", style), " ".join(text.split())))


def print_json(content: Mapping[str, Any]) -> None:
    """Print a JSON object on standard output, in ASCII, so that it passes through a pipe of any encoding."""
    sys.stdout.write(json.dumps(content, allow_nan=False) + "\n")


def write_any_character() -> None:
    """Have a character that the terminal cannot show printed as a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def show_warnings(*categories: type[Warning]) -> None:
    """Show warnings of these categories as one line each, and no others."""
    warnings.simplefilter("ignore")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # a Japanese font often has no bold
    for category in categories:
        warnings.simplefilter("always", category)

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        line("note", str(message), "yellow")

    warnings.showwarning = show


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a `Progress` that draws one bar; short work draws none, and nothing stays on the screen."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    console = err()
    # Few redraws, and none without a terminal: the drawing thread competes with the training for a core.
    with Bar(
        *columns, console=console, transient=True, refresh_per_second=4, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None, visible=False)
        current, start = "", time.monotonic()

        def show(what: str, done: int, total: int) -> None:
            nonlocal current, start
            step = what.split("  ")[0]
            if step != current:
                current, start = step, time.monotonic()
                bar.reset(task, total=total, visible=False)
            visible = done < total and time.monotonic() - start > BAR_DELAY_S
            bar.update(task, description=what, completed=done, total=total, visible=visible)

        yield show


def number(value: float | None, factor: float = 1.0, unit: str = "") -> str:
    """A number with sensible digits and its unit; a dash for none.

    Example:
        >>> number(0.96712, 100, "%"), number(80123.4), number(None), number(0.01993)
        ('96.71 %', '80,123', '–', '0.0199')
    """
    if value is None or not math.isfinite(value):
        return "–"
    scaled = factor * value
    if abs(scaled) >= 1000:
        text = f"{scaled:,.0f}"
    elif abs(scaled) >= 1 or scaled == 0:
        text = f"{scaled:.2f}"
    else:
        text = f"{scaled:.3g}"
    return f"{text} {unit}".strip()

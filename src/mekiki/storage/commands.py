"""Command of storage: check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mekiki.storage.check import Checked

from mekiki import console
from mekiki.errors import InputError
from mekiki.options import (
    Json,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(check)


def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="any folder that mekiki wrote")],
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="bring a folder of an older mekiki up to date: it gets checksums"),
    ] = False,
    json: Json = False,
) -> None:
    """Compare every file of a run with its checksum; a file that is damaged or gone is named, with exit code 2."""
    from mekiki.storage import check

    upgraded = check.upgrade(run) if upgrade else 0
    checked = check.check_run(run)
    bad = [each for each in checked if each.state in (check.DAMAGED, check.MISSING)]
    if json:
        rows = [vars(each) for each in checked]
        console.print_json({"run": str(run), "upgraded": upgraded, "files": rows, "damaged": len(bad)})
    else:
        checked_table(checked)
    if bad:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise InputError(
            f"{run / bad[0].file}: is {bad[0].state}{more}; restore it from a copy, or make it anew"
        )


def checked_table(checked: Sequence[Checked]) -> None:
    """What is known of the files of a run: how many of each state, and all those that are not as they were."""
    table = console.new_table(box=None, padding=(0, 2, 0, 0))
    table.add_column("files", justify="right")
    table.add_column("state")
    table.add_column("which")
    for state in dict.fromkeys(each.state for each in checked):
        names = [
            f"{each.file} ({each.said})" if each.said else each.file
            for each in checked
            if each.state == state
        ]
        shown = names if state in ("damaged", "missing") else names[:4]
        more = ", …" if len(names) > len(shown) else ""
        table.add_row(f"{len(names):,}", state, ", ".join(shown) + more)
    console.out().print(table)

"""Command of storage: check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mekiki import console
from mekiki.errors import InputError
from mekiki.options import Json


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(check)


def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="any folder that mekiki wrote")],
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="add checksums to a folder that an older mekiki wrote")
    ] = False,
    json: Json = False,
) -> None:
    """Compare every file of a run with its checksum; name damaged and missing ones and exit with code 2."""
    from mekiki.storage.check import DAMAGED, MISSING, check_run
    from mekiki.storage.upgrade import upgrade_run

    upgraded = upgrade_run(run) if upgrade else 0
    files = check_run(run)
    bad = [file for file in files if file.state in (DAMAGED, MISSING)]
    if json:
        states = [file.to_dict() for file in files]
        console.print_json({"run": str(run), "upgraded": upgraded, "files": states, "damaged": len(bad)})
    else:
        rows = []
        for state in dict.fromkeys(file.state for file in files):
            names = [
                f"{file.file} ({file.detail})" if file.detail else file.file
                for file in files
                if file.state == state
            ]
            most = len(names) if state in (DAMAGED, MISSING) else 4
            rows.append((f"{len(names):,}", state, ", ".join(names[:most]) + ", …" * (len(names) > most)))
        console.print_table(("files", "state", "which"), rows, right=("files",))
    if bad:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise InputError(
            f"{run / bad[0].file}: is {bad[0].state}{more}; restore it from a copy, or make it again"
        )

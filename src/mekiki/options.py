"""Command-line options that several commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mekiki.errors import InputError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""
DATA_HELP = (
    "mnist, fashion-mnist, kmnist, digits, surfaces, a folder with a sub-folder a class, or an .npz file"
)
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `mekiki train` wrote")]
JudgeFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `mekiki calibrate` wrote")]
MemoryFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="folder that `mekiki train` or `mekiki calibrate` wrote")
]
Json = Annotated[
    bool, typer.Option("--json", help="print one JSON object and nothing else on standard output")
]
Root = Annotated[
    Path | None, typer.Option(help="folder with the idx files of mnist, fashion-mnist or kmnist")
]


def read_size(size: str | None) -> tuple[int, int] | None:
    """Height and width of `--size`, given as `64` or `48x96`."""
    if size is None:
        return None
    parts = size.lower().replace("×", "x").split("x")
    if len(parts) not in (1, 2) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--size {size}: give pixels as 64, or as height x width: 48x96")
    return int(parts[0]), int(parts[-1])


def command_line() -> str:
    """The command as it was typed, for the record in the run."""
    return shlex.join(["mekiki", *sys.argv[1:]])

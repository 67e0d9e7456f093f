"""Options and the common body of commands with `--engine ray`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mekiki import console
from mekiki.errors import not_known
from mekiki.options import INTERRUPTED

Engine = Annotated[
    str, typer.Option(help="here, or ray: on many processes or machines, to a folder of Parquet files")
]
PartLength = Annotated[int, typer.Option("--part", min=1, help="images per file, with --engine ray")]


def is_ray(engine: str) -> bool:
    """Whether `--engine` names Ray."""
    if engine not in ("here", "ray"):
        raise not_known("engine", engine, ("here", "ray"))
    return engine == "ray"


def run_in_bulk(work: Any, run: Path, data: str, output: Path, part: int, json: bool) -> None:
    """Process images with Ray, and print the summary.

    Args:
        work: `embed_in_bulk` or `judge_in_bulk`.
        run: the run folder.
        data: a folder or URL of images.
        output: a folder.
        part: images per file.
        json: print the summary as JSON.
    """
    try:
        with console.progress_bar() as progress:
            summary = work(run, data, output, shard_length=part, progress=progress)
    except KeyboardInterrupt:
        console.line("interrupted", "finished parts are kept: the same command goes on", "yellow")
        sys.exit(INTERRUPTED)
    if json:
        console.print_json(summary)
        return
    for note in summary["notes"]:
        console.line("note", note, "yellow")
    problems = f", {summary['problems']:,} of them cannot be read" if summary["problems"] else ""
    console.out().print(f"{summary['n']:,} rows{problems}: {output}")

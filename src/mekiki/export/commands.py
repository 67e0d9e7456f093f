"""Command of this package: export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

from mekiki import console
from mekiki.errors import InputError
from mekiki.options import (
    Json,
    MemoryFolder,
    read_size,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(export)


def export(
    run: MemoryFolder,
    to: Annotated[str, typer.Option(help="what to write: onnx")] = "onnx",
    with_judge: Annotated[
        bool,
        typer.Option(
            "--with-judge", help="the calibrated judge too: distance, score, p-value, verdict, defect type"
        ),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="the network in eight bits; the loss is measured and shown")
    ] = False,
    flips: Annotated[
        float,
        typer.Option(help="share of the run's photographs whose verdicts may differ in eight bits"),
    ] = 0.0,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|HxW",
            help="pixels of the photographs  [default: those of calibration or training]",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="[default: RUN/export.onnx]")
    ] = None,
    json: Json = False,
) -> None:
    """Write a run as one graph for onnxruntime, after comparing it with the program."""
    from mekiki.export.export_run import export_run

    if to != "onnx":
        raise InputError(f"--to {to}: only onnx can be written")
    with console.progress_bar() as progress:
        result = export_run(
            run,
            output,
            with_judge=with_judge,
            int8=int8,
            flips=flips,
            size=read_size(size),
            progress=progress,
        )
    if json:
        console.print_json(result)
        return
    print_export(result)


def print_export(result: Mapping[str, Any]) -> None:
    """Print what was written, how it compares with the program, and what eight bits cost."""
    screen = console.out()
    height, width = result["size"]
    screen.print(
        f"{result['file']}: opset {result['opset']}, photographs of {height}×{width} pixels ({result['mode']}), "
        f"{result['bytes'] / 1e6:.1f} MB; gives {', '.join(result['outputs'])}"
    )
    _print_parity(screen, result["parity"], "the graph beside the program")
    times = result["milliseconds"]
    screen.print(
        f"one photograph: {times['onnxruntime']:.1f} ms with onnxruntime, {times['program']:.1f} ms with the program "
        f"({result['threads']} thread(s))"
    )
    costs = result["costs"]
    if costs is not None:
        _print_parity(screen, costs["parity"], "what eight bits cost: the written graph beside the program")
        size, spent = costs["bytes"], costs["milliseconds"]
        screen.print(
            f"{size['float'] / 1e6:.1f} MB become {size['int8'] / 1e6:.1f} MB, {spent['float']:.1f} ms become "
            f"{spent['int8']:.1f} ms; the threshold is that of the run and was not calibrated again"
        )


def _print_parity(screen: Console, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    headings = ("images", "number", "verdicts differ", "score", "vector", "nearest to the threshold")
    cells = [
        (
            row["group"],
            str(row["images"]),
            str(row["verdicts"]),
            f"{row['score']:.1e}" if row["score"] else "–",
            f"{row['vector']:.1e}",
            f"{row['nearest']:.1e}" if row["nearest"] is not None else "–",
        )
        for row in rows
    ]
    console.print_table(headings, cells, right=headings[1:], title=title)
    for row in rows:
        for name, what in (
            ("steps", "lie on a step of the score"),
            ("on_threshold", "lie on the threshold"),
            ("taught", "were corrected themselves, which only the program knows"),
        ):
            if row[name]:
                screen.print(f"{row['group']}: {row[name]} {what}")

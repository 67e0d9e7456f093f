"""Command of export: export."""

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
            "--with-judge", help="the calibrated judge too: distance, score, p-value, verdict, kind"
        ),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="the network in eight bits; what that costs is measured and told")
    ] = False,
    flips: Annotated[
        float,
        typer.Option(help="share of the run's photographs that may be judged otherwise in eight bits"),
    ] = 0.0,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|HxW",
            help="pixels of the photographs  [default: those calibrated on, or learnt from]",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="[default: RUN/export.onnx]")
    ] = None,
    json: Json = False,
) -> None:
    """Write a run as one graph for onnxruntime, once it is seen to say what the program says."""
    from mekiki.export.export_run import export_run

    if to != "onnx":
        raise InputError(f"--to {to}: only onnx can be written")
    with console.progress_bar() as progress:
        told = export_run(
            run,
            output,
            with_judge=with_judge,
            int8=int8,
            flips=flips,
            size=read_size(size),
            progress=progress,
        )
    if json:
        console.print_json(told)
        return
    exported_lines(told)


def exported_lines(told: Mapping[str, Any]) -> None:
    """What was written, how it compares with the program, and what eight bits cost."""
    screen = console.out()
    height, width = told["size"]
    screen.print(
        f"{told['file']}: opset {told['opset']}, photographs of {height}×{width} pixels ({told['mode']}), "
        f"{told['bytes'] / 1e6:.1f} MB; gives {', '.join(told['outputs'])}"
    )
    _parity_table(screen, told["parity"], "the graph beside the program")
    times = told["milliseconds"]
    screen.print(
        f"one photograph: {times['onnxruntime']:.1f} ms with onnxruntime, {times['program']:.1f} ms with the program "
        f"({told['threads']} thread(s))"
    )
    costs = told["costs"]
    if costs is not None:
        _parity_table(screen, costs["parity"], "what eight bits cost: the written graph beside the program")
        size, spent = costs["bytes"], costs["milliseconds"]
        screen.print(
            f"{size['float'] / 1e6:.1f} MB become {size['int8'] / 1e6:.1f} MB, {spent['float']:.1f} ms become "
            f"{spent['int8']:.1f} ms; the threshold is that of the run and was not set anew"
        )


def _parity_table(screen: Console, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    table = console.new_table(title=title, title_justify="left")
    for name in ("images", "number", "verdicts differ", "score", "vector", "nearest to the threshold"):
        table.add_column(name, justify="left" if name == "images" else "right")
    for row in rows:
        judged = row["nearest"] is not None
        table.add_row(
            row["group"],
            str(row["images"]),
            str(row["verdicts"]),
            f"{row['score']:.1e}" if row["score"] else "–",
            f"{row['vector']:.1e}",
            f"{row['nearest']:.1e}" if judged else "–",
        )
    screen.print(table)
    for row in rows:
        for name, what in (
            ("steps", "lie on a step of the score"),
            ("on_threshold", "lie on the threshold"),
            ("taught", "were taught, which only the program knows"),
        ):
            if row[name]:
                screen.print(f"{row['group']}: {row[name]} {what}")

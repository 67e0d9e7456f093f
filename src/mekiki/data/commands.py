"""Commands of data: data list, data fetch, data reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mekiki import console
from mekiki.options import (
    Json,
    Root,
    read_size,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    group = typer.Typer(help="Data sets known by name.", no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(data_list)
    group.command("fetch")(data_fetch)
    group.command("reports")(data_reports)
    app.add_typer(group, name="data")


def data_list(root: Root = None, json: Json = False) -> None:
    """The data sets known by name, and where they are."""
    from mekiki.data.catalogue import catalogue

    entries = [vars(entry) for entry in catalogue(root)]
    if json:
        console.print_json({"datasets": entries})
        return
    catalogue_table(entries)


def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mnist, fashion-mnist or kmnist")],
    root: Root = None,
    json: Json = False,
) -> None:
    """Download a data set, or go on with a download that was cut off."""
    from mekiki.data.catalogue import fetch

    with console.progress_bar() as progress:
        folder = fetch(name, root, progress=progress)
    if json:
        console.print_json({"name": name, "folder": str(folder)})
        return
    console.out().print(f"{name}: {folder}")


def data_reports(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="folder to be made")],
    count: Annotated[int, typer.Option(min=1, help="surfaces in all, the classes taking turns")] = 1500,
    language: Annotated[str, typer.Option(help="en, ja or both")] = "both",
    seed: Annotated[int, typer.Option(min=0, help="of the surfaces and of the wording")] = 0,
    size: Annotated[str, typer.Option(metavar="N|HxW", help="pixels of a surface")] = "64",
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="another folder to be made, for masks of the defects")
    ] = None,
    json: Json = False,
) -> None:
    """Write generated surfaces and inspection reports of them, to try describing without data of one's own."""
    from mekiki.data.reports import write_reports

    languages = ("en", "ja") if language == "both" else (language,)
    with console.progress_bar() as progress:
        result = write_reports(
            output,
            count=count,
            languages=languages,
            seed=seed,
            size=read_size(size),
            masks=masks,
            progress=progress,
        )
    if json:
        console.print_json({"folder": str(output), **result})
        return
    console.out().print(f"{result['images']:,} surfaces, {result['reports']:,} reports: {output}")


def catalogue_table(entries: Sequence[Mapping[str, Any]]) -> None:
    """The data sets known by name."""
    rows = [(entry["name"], entry["what"], f"{entry['images']:,}", entry["where"]) for entry in entries]
    console.print_table(("name", "what", "images", "where"), rows, right=("images",))

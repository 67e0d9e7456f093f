"""Command of the web page: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mekiki import console
from mekiki.options import (
    MemoryFolder,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(serve)


def serve(
    run: MemoryFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free")] = 8765,
    host: Annotated[
        str, typer.Option(help="an address of this machine; any other than loopback demands a token")
    ] = "127.0.0.1",
    allow: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="a folder whose images the page may train on; may be repeated"),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="vectors.npz, .parquet or .csv to show as a map too")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
) -> None:
    """Serve a page to look, train, judge and teach, on this machine, until Ctrl-C."""
    from mekiki.web.serve import serve as serve_page

    def ready(address: str) -> None:
        console.out().print(address)
        if open_page:
            import webbrowser

            webbrowser.open(address)

    serve_page(run, host=host, port=port, allow=allow or (), vectors=vectors, say=ready)

"""Command of the web page: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mekiki import console
from mekiki.options import MemoryFolder

LIBRARIES = ("fastapi", "uvicorn", "python_multipart")


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(serve)


def serve(
    run: MemoryFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port")] = 8765,
    host: Annotated[
        str, typer.Option(help="an address of this machine; any other than loopback requires a token")
    ] = "127.0.0.1",
    allow: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="a folder whose images the page may train on; may be repeated"),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="vectors.npz, .parquet or .csv to show as a further map"),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
) -> None:
    """Serve the web page of a run on this machine until Ctrl-C: map, judge, cases, training, descriptions."""
    from mekiki.extras import require

    for name in LIBRARIES:
        require(name, extra="serve", purpose="serving the page")
    from mekiki.web.server import run_server

    def announce(address: str) -> None:
        console.out().print(address)
        if open_page:
            import webbrowser

            webbrowser.open(address)

    run_server(run, host=host, port=port, allow=allow or (), vectors=vectors, announce=announce)

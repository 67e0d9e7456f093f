"""The page on one's own PC, and its JSON API.

Its modules import FastAPI; `serve` looks first whether it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mekiki.extras import require

LIBRARIES = ("fastapi", "uvicorn", "python_multipart")


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    allow: Sequence[Path] = (),
    vectors: Path | None = None,
    say: Callable[[str], None],
) -> None:
    """Serve the page of a run until Ctrl-C.

    Args:
        folder: the run folder.
        host: an address of this machine; any other than loopback demands a token.
        port: 0 for any that is free.
        allow: folders whose files may be named in calls, beside the run's own.
        vectors: a table of vectors to show as a map too.
        say: told the address of the page once it answers.

    Raises:
        InputError: there is no such run, folder or file, or the address is taken.
        MissingExtraError: the extra `serve` is not installed.
    """
    for name in LIBRARIES:
        require(name, extra="serve", purpose="serving the page")
    from mekiki.web.server import run_server

    run_server(folder, host=host, port=port, allow=allow, vectors=vectors, say=say)

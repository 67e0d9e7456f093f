"""Opening of a store by its place: a folder or a server."""

from __future__ import annotations

from pathlib import Path

from mekiki.cases.case import EncoderInfo
from mekiki.cases.store import Store


def open_store(place: str | Path, name: str = "images", encoder: EncoderInfo | None = None) -> Store:
    """Open the store at a place.

    Args:
        place: a folder, or `qdrant+http://HOST:PORT/PREFIX` (or `https`), with the API key in `MEKIKI_QDRANT_KEY`.
        name: which of the stores there: one holds images, another notes.
        encoder: what makes its vectors; `None` opens a store that exists.

    Raises:
        InputError: there is none and no encoder is given; it is of another encoder; or the server cannot be reached.
        MissingExtraError: the extra `cases` is not installed.
    """
    if str(place).startswith("qdrant+"):
        from mekiki.cases.qdrant import QdrantStore, connect

        client, prefix = connect(str(place))
        return QdrantStore(client, f"{prefix}-{name}", encoder, place=str(place))
    from mekiki.cases.lance import LanceStore

    return LanceStore(Path(place), name, encoder)

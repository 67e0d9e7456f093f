"""How long work reports how far it is, without knowing who shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are (bytes, files, images or batches)."""


def silent(what: str, done: int, total: int) -> None:
    """Show nothing; the default wherever a `Progress` is taken."""

"""How a note names what it counts: the first few, and how many more."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], most: int = 3) -> str:
    """Name the first of many.

    Example:
        >>> listed(["a.png", "b.png", "c.png", "d.png", "e.png"])
        'a.png, b.png, c.png and 2 more'
        >>> listed(["a.png"])
        'a.png'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def several(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun.

    Example:
        >>> several(1, "image"), several(1200, "image"), several(2, "class", "classes")
        ('1 image', '1,200 images', '2 classes')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"

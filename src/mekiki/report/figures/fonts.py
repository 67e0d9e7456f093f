"""Text in pictures: Japanese where a font for it is installed, and `?` in place of a missing glyph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "IPAexGothic",
    "IPAGothic",
    "TakaoGothic",
    "VL Gothic",
    "Yu Gothic",
    "Meiryo",
    "Hiragino Sans",
    "Hiragino Kaku Gothic ProN",
    "MS Gothic",
)


@cache
def families() -> tuple[str, ...]:
    """The installed ones of `FAMILIES`; matplotlib takes each glyph from the first that has it."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return tuple(name for name in FAMILIES if name in installed)


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(
        code
        for name in families()
        for code in get_font(findfont(FontProperties(family=[name]))).get_charmap()
    )


def drawable_text(text: str, otherwise: str | None = None, longest: int = 0) -> str:
    """The text if every character can be drawn; else `otherwise`, or without it the text with `?` for the missing.

    Args:
        text: what should be drawn; line breaks inside it stay.
        otherwise: what to draw when a glyph is missing.
        longest: cut to this many characters, with an ellipsis in the middle (names of classes often differ in
            their last letters only); 0 never cuts.

    Example:
        >>> drawable_text("scratch"), drawable_text("\U0010fffd", otherwise="class 3"), drawable_text("a\U0010fffd")
        ('scratch', 'class 3', 'a?')
        >>> drawable_text("defect number 12", longest=8)
        'defe… 12'
    """
    text = text.replace("\t", " ").replace("\r", " ")
    missing = {letter for letter in text if letter != "\n" and ord(letter) not in _glyphs()}
    if missing:
        text = otherwise or "".join("?" if letter in missing else letter for letter in text)
    if not longest or len(text) <= longest:
        return text
    return text[: longest // 2] + "…" + text[len(text) - (longest - 1) // 2 :]


def class_labels(class_names: Sequence[str], longest: int = 24) -> list[str]:
    """Class names as they can be drawn: a name that no installed font can show becomes `class 3`.

    Example:
        >>> class_labels(["ok", "\U0010fffd"])
        ['ok', 'class 1']
    """
    return [
        drawable_text(" ".join(str(name).split()) or f"class {number}", f"class {number}", longest)
        for number, name in enumerate(class_names)
    ]

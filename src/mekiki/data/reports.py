"""Generated inspection reports, made from masks: defect type, place, severity, cause and repair of a part.

Defect, place and severity are true, because they come from the mask; causes and repairs are drawn at random among
plausible ones of the defect type and say nothing about a real line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, label

from mekiki.console import Progress, silent
from mekiki.data.report_phrases import ENGLISH, LANGUAGES, Phrases
from mekiki.data.surfaces import CLASSES, DEFAULT_SIDE, generate_surfaces
from mekiki.errors import InputError, not_known
from mekiki.storage.atomic import replace_folder

COLUMNS = ("file", "language", "text", "defect", "place", "severity", "cause", "repair")
"""Of the table of reports; `file` is relative to the folder of the table."""
TABLE = "texts.csv"
CLEAN = ("clean", "free", "ok", "good", "none")
"""Names of classes of parts without a defect."""
NONE = "none"
PLACES = tuple(ENGLISH.places)
"""The cells of a 3×3 grid, row by row."""
SEVERITIES = tuple(ENGLISH.severities)
LIMITS: Mapping[str, tuple[str, float, float]] = {
    "scratch": ("length", 0.52, 0.66),
    "crack": ("length", 0.52, 0.66),
    "pit": ("area", 0.014, 0.026),
    "stain": ("area", 0.10, 0.15),
    "blowhole": ("area", 0.001, 0.0025),
    "break": ("area", 0.003, 0.02),
    "fray": ("area", 0.08, 0.25),
    "uneven": ("area", 0.15, 0.33),
}
"""What the severity of a defect goes by, and from where on it is moderate and severe (see `measure_defect`)."""
GAP = 1 / 64
"""Pieces of a mask closer than twice this share of the shorter side are one piece."""
COUNTED = 0.2
"""Of the largest piece: smaller ones do not count as another defect."""
MOST_COUNTED = 4
TERSE = 0.2
"""Share of the reports that say no more than defect, place and severity."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Report:
    """What is written of one part.

    Attributes:
        language: `"en"` or `"ja"`.
        text: the report as a person reads it.
        defect: the kind, or `"none"`.
        place: one of `PLACES`, or `"none"`.
        severity: one of `SEVERITIES`, or `"none"`.
        cause: in the language of the text.
        repair: in the language of the text.
    """

    language: str
    text: str
    defect: str
    place: str
    severity: str
    cause: str
    repair: str


@dataclass(frozen=True)
class DefectMeasures:
    """What a mask says of a defect.

    Attributes:
        place: one of `PLACES`.
        area: share of the surface.
        length: of the longest piece from end to end, where the side of the part is 1.
        pieces: how many there are, apart from small ones beside the largest.
    """

    place: str
    area: float
    length: float
    pieces: int


def measure_defect(mask: Mask) -> DefectMeasures:
    """Measure a defect.

    Its **place** is the cell of a 3×3 grid where the middle (centroid) of its largest piece lies: of several pits
    people name the largest, and nobody says "centre" of two in opposite corners. Its **length** is the diagonal of the
    box around the longest piece, height and width as shares of the part's. Its **area** is that of all pieces.

    Raises:
        InputError: the mask is empty.

    Example:
        >>> mask = np.zeros((60, 60), bool)
        >>> mask[2:5, 5:35] = True
        >>> measure_defect(mask)
        DefectMeasures(place='top', area=0.025, length=0.502..., pieces=1)
        >>> mask[50:59, 50:59] = True
        >>> measure_defect(mask).place, measure_defect(mask).pieces
        ('top', 2)
    """
    if mask.ndim != 2 or not mask.any():
        raise InputError("the mask of a defect is empty; leave the part out, or call it clean")
    height, width = mask.shape
    reach = max(1, round(GAP * min(height, width)))
    joined = binary_dilation(mask, np.ones((3, 3), bool), iterations=reach)
    of_piece = label(joined, np.ones((3, 3)))[0][mask]
    rows, columns = np.nonzero(mask)
    sizes = np.bincount(of_piece)
    largest = of_piece == sizes.argmax()
    row, column = (rows[largest].mean() + 0.5) / height * 3, (columns[largest].mean() + 0.5) / width * 3
    lengths = [
        np.hypot((np.ptp(rows[own]) + 1) / height, (np.ptp(columns[own]) + 1) / width)
        for own in (of_piece == piece for piece in np.flatnonzero(sizes))
    ]
    return DefectMeasures(
        PLACES[3 * min(2, int(row)) + min(2, int(column))],
        float(mask.mean()),
        float(max(lengths)),
        int((sizes >= COUNTED * sizes.max()).sum()),
    )


def severity_of(defect: str, measures: DefectMeasures) -> str:
    """How bad a defect is: lines go by their length, all others by their area, against the `LIMITS` of their kind.

    The limits lie near thirds: of generated surfaces for their own kinds (scratch, crack, pit, stain), of the magnetic
    tiles for theirs (blowhole, break, fray, uneven). Cracks of these tiles go by the limits of all cracks, and are
    short: most are minor.

    Raises:
        InputError: the defect has no limits.

    Example:
        >>> long = DefectMeasures("top", 0.02, 0.7, 1)
        >>> severity_of("scratch", long), severity_of("pit", long)
        ('severe', 'moderate')
    """
    if defect not in LIMITS:
        raise not_known("defect", defect, LIMITS)
    by, moderate, severe = LIMITS[defect]
    size = measures.length if by == "length" else measures.area
    return SEVERITIES[int(size >= moderate) + int(size >= severe)]


def report_of(defect: str, mask: Mask, rng: np.random.Generator, language: str) -> Report:
    """Write a report of a part, with varied wording.

    Args:
        defect: the name of its class: one of `LIMITS`, or of `CLEAN`.
        mask: bool `[H, W]`, true where the part is defective.
        rng: draws the wording, the cause and the repair.
        language: `"en"` or `"ja"`.

    Raises:
        InputError: defect or language is not known, a clean part has a mask, or a defective one has none.

    Example:
        >>> mask = np.zeros((60, 60), bool)
        >>> mask[2:5, 5:50] = True
        >>> report = report_of("scratch", mask, np.random.default_rng(3), "en")
        >>> report.defect, report.place, report.severity
        ('scratch', 'top', 'severe')
        >>> facts_in(report.text, "en")
        {'defect': 'scratch', 'place': 'top', 'severity': 'severe'}
    """
    words = _words(language)
    if defect in CLEAN:
        if mask.any():
            raise InputError(
                f"a part of class {defect} has a mask that marks a defect; correct class or mask"
            )
        return Report(language, _one(words.clean, rng), NONE, NONE, NONE, words.nothing, words.nothing)
    if defect not in LIMITS:
        raise not_known("defect", defect, (*LIMITS, *CLEAN))
    measures = measure_defect(mask)
    severity = severity_of(defect, measures)
    cause = _one(words.causes[defect], rng)
    repairs = words.repairs[defect]
    first = SEVERITIES.index(severity)
    repair = _one(repairs[first : first + 2], rng)
    if rng.random() < TERSE:
        text = _finding(words, words.terse, defect, measures, severity, rng)
    else:
        sentences = [_fill(_one(words.cause_said, rng), {"cause": cause})] if rng.random() < 0.85 else []
        if rng.random() < 0.85:
            sentences.append(_fill(_one(words.repair_said, rng), {"repair": repair}))
        if rng.random() < 0.7:
            sentences.insert(int(rng.random() < 0.2), _size(words, defect, measures, rng))
        finding = _finding(words, words.findings, defect, measures, severity, rng)
        text = words.between.join([finding, *sentences])
    return Report(language, text, defect, measures.place, severity, cause, repair)


def facts_in(text: str, language: str) -> dict[str, str]:
    """Read defect, place and severity back out of a text.

    What stands first counts. A fact that the text does not name is `""`; where it says that nothing was measures, all
    three are `"none"`, unless it names a defect all the same.

    Raises:
        InputError: the language is not known.

    Example:
        >>> facts_in("Some severe pits, and nothing about where.", "en")
        {'defect': 'pit', 'place': '', 'severity': 'severe'}
        >>> facts_in("左上に軽微な引っかき傷が1本。", "ja")
        {'defect': 'scratch', 'place': 'upper left', 'severity': 'minor'}
    """
    _words(language)
    plain = text.lower()
    measures = {}
    for fact, (pattern, codes) in _readers(language).items():
        match = pattern.search(plain)
        measures[fact] = codes[match.group()] if match else ""
    clean = measures.pop("clean")
    return dict.fromkeys(measures, NONE) if clean and not measures["defect"] else measures


def write_reports(
    folder: Path,
    *,
    count: int = 1500,
    languages: Sequence[str] = ("en", "ja"),
    seed: int = 0,
    size: tuple[int, int] | None = None,
    masks: Path | None = None,
    progress: Progress = silent,
) -> dict[str, int]:
    """Write generated surfaces as `CLASS/0001.png`, with a report of each in each language in `texts.csv`.

    Args:
        folder: made in one step; one that reports were written to before is replaced.
        count: surfaces in all, the classes taking turns.
        languages: some of `"en"` and `"ja"`.
        seed: of the surfaces and of the wording.
        size: height and width; 64×64 by default.
        masks: another folder for their masks, under the same names; made in one step too.
        progress: values of the surfaces written.

    Returns:
        How many `images` and `reports` there are.

    Raises:
        InputError: the folder holds something else, or a setting is out of range.
    """
    for language in languages:
        _words(language)
    if count < 1:
        raise InputError(f"count is {count}; give at least 1")
    if folder.exists() and not _ours(folder):
        raise InputError(f"{folder}: holds something else than reports; give a folder that is new")
    if masks is not None and masks.exists() and (not masks.is_dir() or any(masks.iterdir())):
        raise InputError(f"{masks}: is there already; give a folder for the masks that is new")
    each = -(-count // len(CLASSES))
    surfaces = generate_surfaces(size or (DEFAULT_SIDE, DEFAULT_SIDE), per_class=each, seed=seed)
    assert surfaces.masks is not None
    rows: list[tuple[str, ...]] = []
    with ExitStack() as folders:
        new = folders.enter_context(replace_folder(folder))
        marked = None if masks is None else folders.enter_context(replace_folder(masks))
        for name in CLASSES:
            for made in (new, marked):
                if made is not None:
                    (made / name).mkdir()
        for number in range(count):
            turn, kind = divmod(number, len(CLASSES))
            row = kind * each + turn
            name = f"{CLASSES[kind]}/{turn + 1:04}.png"
            Image.fromarray(surfaces.pixels[row]).save(new / name)
            if marked is not None:
                Image.fromarray(surfaces.masks[row]).save(marked / name)
            for language in languages:
                rng = np.random.default_rng((seed, number, list(LANGUAGES).index(language)))
                rows.append((name, *astuple(report_of(CLASSES[kind], surfaces.masks[row], rng, language))))
            progress("writing", number + 1, count)
        with (new / TABLE).open("w", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
    return {"images": count, "reports": len(rows)}


def _ours(folder: Path) -> bool:
    """Whether nothing is lost when the folder is replaced."""
    if not folder.is_dir():
        return False
    inside = {path.name for path in folder.iterdir()}
    return not inside or (TABLE in inside and inside <= {TABLE, *CLASSES})


def _words(language: str) -> Phrases:
    if language not in LANGUAGES:
        raise not_known("language", language, LANGUAGES)
    return LANGUAGES[language]


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _finding(
    words: Phrases,
    templates: Sequence[str],
    defect: str,
    measures: DefectMeasures,
    severity: str,
    rng: np.random.Generator,
) -> str:
    many = measures.pieces > 1
    template = _one(templates, rng)
    name = _one((many and words.several.get(defect)) or words.defects[defect], rng)
    rated = _one(words.severities[severity], rng)
    values = {
        "defect": name,
        "place": _one(words.places[measures.place], rng),
        "severity": rated,
        "severity_": rated + words.endings.get(rated, ""),
        "are": "are" if many else "is",
        "some": _number(measures.pieces, "an" if _begins_with_vowel(template, name) else "a", rng),
        "count": _count_phrase(defect, measures.pieces),
    }
    return _fill(template, values)


def _begins_with_vowel(template: str, name: str) -> bool:
    return "ome} {defect}" in template and name[0] in "aeiou"


def _number(pieces: int, article: str, rng: np.random.Generator) -> str:
    if pieces == 1:
        return _one((article, "one"), rng)
    if pieces > MOST_COUNTED:
        return "several"
    return _one((("two", "three", "four")[pieces - 2], "several"), rng)


def _count_phrase(defect: str, pieces: int) -> str:
    """How many, as Japanese counts things: lines, holes, and all others have their own words for it."""
    counter = {"length": "本"}.get(LIMITS[defect][0], "個" if defect in ("pit", "blowhole") else "箇所")
    return f"が{pieces}{counter}" if pieces <= MOST_COUNTED else "が多数"


def _size(words: Phrases, defect: str, measures: DefectMeasures, rng: np.random.Generator) -> str:
    by_length = LIMITS[defect][0] == "length"
    share = min(1.0, measures.length) if by_length else measures.area
    japanese = words is not ENGLISH
    percent = 100 * share
    if percent < 1:
        size = "1%未満" if japanese else "less than 1 %"
    elif percent < 10:
        size = f"約{percent:.0f}%" if japanese else f"about {percent:.0f} %"
    elif japanese and rng.random() < 0.6:
        size = f"約{max(1, round(percent / 10))}割"
    else:
        rounded = 5 * round(percent / 5)
        size = f"約{rounded}%" if japanese else _in_words(share, rounded, rng)
    sentence = _fill(_one(words.lengths if by_length else words.areas, rng), {"size": size})
    return sentence.replace("About about", "About").replace("roughly about", "roughly")


def _in_words(share: float, rounded: int, rng: np.random.Generator) -> str:
    names = {0.1: "a tenth", 0.25: "a quarter", 1 / 3: "a third", 0.5: "half", 2 / 3: "two thirds"}
    names[0.75] = "three quarters"
    nearest = min(names, key=lambda value: abs(value - share))
    near = abs(nearest - share) < 0.03
    return f"about {names[nearest]}" if near and rng.random() < 0.5 else f"about {rounded} %"


def _fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its blanks filled; a blank with a capital gets one."""
    capitals = {key.capitalize(): value[:1].upper() + value[1:] for key, value in values.items()}
    return template.format(**values, **capitals)


@cache
def _readers(language: str) -> dict[str, tuple[re.Pattern[str], dict[str, str]]]:
    """For each fact a pattern of all its phrases, and what each of them means."""
    words = LANGUAGES[language]
    defects = {
        phrase: code
        for table in (words.defects, words.several)
        for code, all_ in table.items()
        for phrase in all_
    }
    tables = {
        "defect": defects,
        "place": {phrase: code for code, all_ in words.places.items() for phrase in all_},
        "severity": {phrase: code for code, all_ in words.severities.items() for phrase in all_},
        "clean": dict.fromkeys(words.clean_said, NONE),
    }
    readers = {}
    for fact, codes in tables.items():
        # Longest first, for "at the top left" is not "at the top".
        any_of = "|".join(re.escape(phrase) for phrase in sorted(codes, key=len, reverse=True))
        readers[fact] = (re.compile(any_of if language == "ja" else rf"\b(?:{any_of})\b"), codes)
    return readers

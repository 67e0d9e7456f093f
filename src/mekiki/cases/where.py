r"""Which cases are meant: a small language, read once, that means the same on every store.

    label = 'crack' and not (who = 'sato' or note like '%oil%') and time >= '2026-11-01'

| what | how |
|---|---|
| fields | `id`, `label`, `note`, `image`, `who`, `run`, which are text, and `time` |
| comparisons | `=`, `!=`, `<`, `<=`, `>`, `>=`; text by its Unicode code points, case-sensitive |
| lists | `label in ('crack', 'fray')`, `label not in (…)` |
| patterns | `note like '%oil%'`, `not like`; `%` is any text, `_` one character, after a backslash just themselves |
| joined by | `not`, then `and`, then `or`; parentheses |
| values | text in single quotes, `''` a quote in it; a time as ISO 8601, in UTC unless it says otherwise |

Values are only ever compared: nothing that stands in one is read as anything else.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from mekiki.cases.case import microseconds
from mekiki.errors import InputError, not_known

FIELDS = ("id", "label", "note", "image", "who", "run", "time")
LONGEST = 100_000
"""Characters of a condition."""
DEEPEST = 60
"""Parentheses and `not` inside one another."""

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(r"\s*(?:'((?:[^']|'')*)'|(!=|<>|<=|>=|[=<>(),])|([^\W\d]\w*))")
_WORDS = ("and", "or", "not", "in", "like")


@dataclass(frozen=True)
class Compare:
    """`field op value`; the value of `time` is microseconds since 1970."""

    field: str
    op: str
    value: str | int


@dataclass(frozen=True)
class OneOf:
    """`field in (…)`."""

    field: str
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True)
class Like:
    """`field like pattern`."""

    field: str
    pattern: str


@dataclass(frozen=True)
class And:
    """Joined by `and`."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Or:
    """Joined by `or`."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    """The contrary."""

    part: Condition


Condition = Compare | OneOf | Like | And | Or | Not


def parse_where(text: str) -> Condition:
    """Read a condition.

    Raises:
        InputError: it cannot be read; the message says from where on.

    Example:
        >>> parse_where("label = 'crack' or who in ('sato', 'o''brien')")
        Or(parts=(Compare(field='label', op='=', value='crack'), OneOf(field='who', values=('sato', "o'brien"))))
        >>> parse_where("label = crack")
        Traceback (most recent call last):
        mekiki.errors.InputError: --where "label = crack": a value in single quotes is wanted at "crack"
    """
    return _Reader(text).whole()


def matches(condition: Condition, row: Mapping[str, Any]) -> bool:
    """Whether a case is meant; this is what every store must agree with.

    Args:
        condition: as read.
        row: the fields, `time` in microseconds since 1970.

    Example:
        >>> matches(parse_where("note like 'oil%' and time < '2026-01-01'"), {"note": "oil leak", "time": 0})
        True
    """
    match condition:
        case Compare(field, op, value):
            return _COMPARE[op](row[field], value)
        case OneOf(field, values):
            return row[field] in values
        case Like(field, pattern):
            return _expression(pattern).fullmatch(row[field]) is not None
        case And(parts):
            return all(matches(part, row) for part in parts)
        case Or(parts):
            return any(matches(part, row) for part in parts)
        case Not(part):
            return not matches(part, row)


def fields_of(condition: Condition) -> set[str]:
    """The fields that it speaks of."""
    match condition:
        case And(parts) | Or(parts):
            return set().union(*(fields_of(part) for part in parts))
        case Not(part):
            return fields_of(part)
        case _:
            return {condition.field}


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression."""
    read, escaped = [], False
    for letter in pattern:
        if escaped or letter not in "%_\\":
            read.append(re.escape(letter))
            escaped = False
        elif letter == "\\":
            escaped = True
        else:
            read.append(".*" if letter == "%" else ".")
    return re.compile("".join(read), re.DOTALL)


class _Reader:
    """Recursive descent: or ▸ and ▸ not ▸ comparison."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise InputError(f"--where: {len(text):,} characters are too many; give at most {LONGEST:,}")
        if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError("--where: holds what is no text; give it in UTF-8")
        self.text, self.end, self.depth = text, 0, 0
        self.kind, self.token = "", ""
        self._next()

    def whole(self) -> Condition:
        condition = self._either()
        if self.kind != "end":
            self._refuse("and, or, or the end")
        return condition

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._takes("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self) -> Condition:
        self.depth += 1
        if self.depth > DEEPEST:
            raise InputError(f"--where: more than {DEEPEST} parentheses inside one another; make it simpler")
        try:
            if self._takes("not"):
                return Not(self._one())
            if self._takes("("):
                condition = self._either()
                self._wants(")")
                return condition
            return self._comparison()
        finally:
            self.depth -= 1

    def _comparison(self) -> Condition:
        if self.kind != "word" or self.token.lower() in _WORDS:
            self._refuse(f"one of {', '.join(FIELDS)}")
        field = self.token.lower()
        if field not in FIELDS:
            raise not_known("field of a case", self.token, FIELDS)
        self._next()
        if self.kind == "sign" and self.token in (*_COMPARE, "<>"):
            op = "!=" if self.token == "<>" else self.token  # nosec B105: a sign, no password
            self._next()
            return Compare(field, op, self._value(field))
        contrary = self._takes("not")
        if self._takes("in"):
            self._wants("(")
            values = [self._value(field)]
            while self._takes(","):
                values.append(self._value(field))
            self._wants(")")
            made: Condition = OneOf(field, tuple(values))  # type: ignore[arg-type]
        elif self._takes("like"):
            if field == "time":
                raise InputError("--where: time has no pattern; compare it, as in time >= '2026-11-01'")
            made = Like(field, self._pattern(str(self._value(field))))
        else:
            self._refuse("=, !=, <, <=, >, >=, in or like")
        return Not(made) if contrary else made

    def _pattern(self, text: str) -> str:
        if re.fullmatch(r"(?:[^\\]|\\[%_\\])*", text, re.DOTALL) is None:
            raise InputError(
                f"--where: like '{text}': a backslash goes before %, _ or another backslash only"
            )
        return text

    def _value(self, field: str) -> str | int:
        if self.kind != "value":
            self._refuse("a value in single quotes")
        text = self.token
        self._next()
        if field != "time":
            return text
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise InputError(
                f"--where: time '{text}' is none; give it as 2026-11-25 or 2026-11-25T08:30:00"
            ) from None
        return microseconds(time if time.tzinfo else time.replace(tzinfo=UTC))

    def _takes(self, token: str) -> bool:
        if self.kind in ("word", "sign") and self.token.lower() == token:
            self._next()
            return True
        return False

    def _wants(self, token: str) -> None:
        if not self._takes(token):
            self._refuse(token)

    def _next(self) -> None:
        self.start = self.end
        if not self.text[self.end :].strip():
            self.kind, self.token = "end", ""
            return
        found = _TOKEN.match(self.text, self.end)
        if found is None:
            self._refuse("a field, a sign or a value in single quotes")
        self.end = found.end()
        value, sign, word = found.groups()
        if value is not None:
            self.kind, self.token = "value", value.replace("''", "'")
        elif sign is not None:
            self.kind, self.token = "sign", sign
        else:
            self.kind, self.token = "word", word

    def _refuse(self, wanted: str) -> NoReturn:
        rest = self.text[self.start :].strip()
        where = f'"{rest}"' if rest else "the end"
        raise InputError(f'--where "{self.text}": {wanted} is wanted at {where}')

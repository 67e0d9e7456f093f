r"""Conditions on cases: a small language, parsed once and translated for each store.

    label = 'crack' and not (who = 'sato' or note like '%oil%') and time >= '2026-11-01'

| what | how |
|---|---|
| fields | `id`, `label`, `note`, `image`, `who`, `run`, which are text, and `time` |
| comparisons | `=`, `!=`, `<`, `<=`, `>`, `>=`; text by its Unicode code points, case-sensitive |
| lists | `label in ('crack', 'fray')`, `label not in (…)` |
| patterns | `note like '%oil%'`, `not like`; `%` is any text, `_` one character, after a backslash just themselves |
| joined by | `not`, then `and`, then `or`; parentheses |
| values | text in single quotes, `''` a quote in it; a time as ISO 8601, in UTC unless it has a time zone |

Values are only ever compared: no store interprets their text.
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
MAX_LENGTH = 100_000
"""Characters of a condition."""
MAX_DEPTH = 60
"""Parentheses and `not` inside one another."""

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda text, values: text in values,
    "like": lambda text, pattern: _regular_expression(pattern).fullmatch(text) is not None,
}
_TOKEN = re.compile(r"\s*(?:'(?P<value>(?:[^']|'')*)'|(?P<sign>!=|<>|<=|>=|[=<>(),])|(?P<word>[^\W\d]\w*))")
_WORDS = ("and", "or", "not", "in", "like")


@dataclass(frozen=True)
class Compare:
    """`field op value`.

    Attributes:
        field: one of `FIELDS`.
        op: `=`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `like`.
        value: text, or for `time` microseconds since 1970; for `in` a tuple of them.
    """

    field: str
    op: str
    value: str | int | tuple[str | int, ...]


@dataclass(frozen=True)
class Joined:
    """Conditions joined by one word, `and` or `or`."""

    word: str
    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    """Negation."""

    part: Condition


Condition = Compare | Joined | Not


def parse_where(text: str) -> Condition:
    """Parse a condition.

    Raises:
        InputError: it cannot be parsed; the message shows from where on.

    Example:
        >>> parse_where("label = 'crack' or who in ('sato', 'o''brien')").parts[1]
        Compare(field='who', op='in', value=('sato', "o'brien"))
        >>> parse_where("label = crack")
        Traceback (most recent call last):
        mekiki.errors.InputError: --where "label = crack": a value in single quotes is wanted at "crack"
    """
    return _Parser(text).parse()


def matches(condition: Condition, row: Mapping[str, Any]) -> bool:
    """Whether a case meets a condition; every store must agree with this function.

    Args:
        condition: as parsed.
        row: the fields, `time` in microseconds since 1970.

    Example:
        >>> matches(parse_where("note like 'oil%' and time < '2026-01-01'"), {"note": "oil leak", "time": 0})
        True
    """
    match condition:
        case Compare(field, op, value):
            return _COMPARE[op](row[field], value)
        case Joined(word, parts):
            return (all if word == "and" else any)(matches(part, row) for part in parts)
        case Not(part):
            return not matches(part, row)


def begins_with(field: str, text: str) -> Condition:
    """The condition that a field begins with a text."""
    return Compare(field, "like", re.sub(r"([%_\\])", r"\\\1", text) + "%")


def _regular_expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a `like` pattern."""
    parts = {"%": ".*", "_": "."}
    letters = re.findall(r"\\.|.", pattern, re.DOTALL)
    return re.compile("".join(parts.get(each) or re.escape(each[-1]) for each in letters), re.DOTALL)


class _Parser:
    """Recursive descent: or ▸ and ▸ not ▸ comparison."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise InputError(f"--where: {len(text):,} characters are too many; give at most {MAX_LENGTH:,}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError("--where: holds what is no text; give it in UTF-8")
        self.text, self.end, self.depth = text, 0, 0
        self._next()

    def parse(self) -> Condition:
        condition = self._parse_joined("or")
        if self.kind != "end":
            self._refuse("and, or, or the end")
        return condition

    def _parse_joined(self, word: str) -> Condition:
        parts: list[Condition] = []
        while not parts or self._accept(word):
            parts.append(self._parse_joined("and") if word == "or" else self._parse_single())
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def _parse_single(self) -> Condition:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InputError(
                f"--where: more than {MAX_DEPTH} parentheses inside one another; make it simpler"
            )
        if self._accept("not"):
            condition: Condition = Not(self._parse_single())
        elif self._accept("("):
            condition = self._parse_joined("or")
            self._expect(")")
        else:
            condition = self._parse_comparison()
        self.depth -= 1
        return condition

    def _parse_comparison(self) -> Condition:
        if self.kind != "word" or self.token.lower() in _WORDS:
            self._refuse(f"one of {', '.join(FIELDS)}")
        field = self.token.lower()
        if field not in FIELDS:
            raise not_known("field of a case", self.token, FIELDS)
        self._next()
        op = "!=" if self.token == "<>" else self.token  # nosec B105: a sign, no password
        if self.kind == "sign" and op in _COMPARE:
            self._next()
            return Compare(field, op, self._parse_value(field))
        negated = self._accept("not")
        if self._accept("in"):
            self._expect("(")
            values = [self._parse_value(field)]
            while self._accept(","):
                values.append(self._parse_value(field))
            self._expect(")")
            condition = Compare(field, "in", tuple(values))
        elif self._accept("like"):
            if field == "time":
                raise InputError("--where: time has no pattern; compare it, as in time >= '2026-11-01'")
            condition = Compare(field, "like", self._parse_value(field))
            if re.fullmatch(r"(?:[^\\]|\\[%_\\])*", str(condition.value), re.DOTALL) is None:
                raise InputError(
                    f"--where: like '{condition.value}': a backslash goes before %, _ or another backslash only"
                )
        else:
            self._refuse("=, !=, <, <=, >, >=, in or like")
        return Not(condition) if negated else condition

    def _parse_value(self, field: str) -> str | int:
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
                f"--where: time '{text}' cannot be read; give it as 2026-11-25 or 2026-11-25T08:30:00"
            ) from None
        return microseconds(time if time.tzinfo else time.replace(tzinfo=UTC))

    def _accept(self, token: str) -> bool:
        if self.kind in ("word", "sign") and self.token.lower() == token:
            self._next()
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            self._refuse(token)

    def _next(self) -> None:
        self.start = self.end
        self.kind, self.token = "end", ""
        if not self.text[self.end :].strip():
            return
        token = _TOKEN.match(self.text, self.end)
        if token is None:
            self._refuse("a field, a sign or a value in single quotes")
        self.end, self.kind = token.end(), str(token.lastgroup)
        self.token = token[self.kind].replace("''", "'") if self.kind == "value" else token[self.kind]

    def _refuse(self, wanted: str) -> NoReturn:
        rest = self.text[self.start :].strip()
        where = f'"{rest}"' if rest else "the end"
        raise InputError(f'--where "{self.text}": {wanted} is wanted at {where}')

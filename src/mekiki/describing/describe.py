"""`Explainer`: photographs in, what is to be said of them out, with the past cases it rests on."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mekiki.cases.memory import Memory
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.search import find_similar
from mekiki.data.image_set import Pixels
from mekiki.describing.answer import ASKS, LANGUAGES, json_schema
from mekiki.describing.describer import Describer
from mekiki.describing.part_features import Look, look_of
from mekiki.describing.part_vectors import PartVectors
from mekiki.describing.template import template_fields, template_text
from mekiki.errors import InputError, not_known
from mekiki.storage.atomic import recover_folder
from mekiki.storage.run_folder import DESCRIBER, DESCRIBER_SETTINGS
from mekiki.storage.vector_table import read_vectors

CASES = 3
"""Past cases that an answer may rest on."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One part to be described.

    Attributes:
        name: of the file, or of the vector.
        part: its vectors.
        pixels: as it was seen; `None` for a vector.
        near: the past cases nearest to it, as `mekiki search` tells them.
    """

    name: str
    part: PartVectors
    pixels: Pixels | None
    near: list[dict[str, Any]] = field(default_factory=list)


class Explainer:
    """What a run folder says of photographs: by its describer, or, where it has none, by the nearest past cases.

    Args:
        run: the run folder.
        language: `en` or `ja`; `None` is that of most texts it learnt from.
        cases: how many past cases an answer may rest on, where the run remembers any.
        four_bit: keep a language model's weights in four bits.
        run_memory: the run's memory, where it is open already; it looks with the same eye.

    Attributes:
        describer: `None` where none has learnt.
        proof: what its proof came to; empty without a describer.

    Raises:
        InputError: its describer cannot be read, or the language is not known.
    """

    def __init__(
        self,
        run: Path,
        *,
        language: str | None = None,
        cases: int = CASES,
        four_bit: bool = False,
        run_memory: RunMemory | None = None,
    ) -> None:
        if language is not None and language not in LANGUAGES:
            raise not_known("language", language, LANGUAGES)
        self.run, self._k = run, cases
        recover_folder(run / DESCRIBER)
        self.describer: Describer | None = None
        self.facts: dict[str, Any] = {}
        if (run / DESCRIBER).is_dir():
            self.describer, self.facts = Describer.load(run / DESCRIBER, four_bit=four_bit)
        self.proof: dict[str, Any] = self.facts.get("proof", {})
        self.language = language or (self.facts.get("languages") or ["en"])[0]
        self._room = run_memory or RunMemory(run)
        self._look: Look | None = None

    def in_language(self, language: str) -> Self:
        """The same, speaking another language, if it knows it: a small decoder knows those of its texts."""
        known = self.facts.get("languages", LANGUAGES) if self.method == "decoder" else LANGUAGES
        other = copy.copy(self)
        if language in known:
            other.language = language
        return other

    @property
    def method(self) -> str:
        """What speaks: `decoder` (a small one of its own), `language model` or `template`."""
        if self.describer is None:
            return "template"
        return "decoder" if self.describer.lm.own else "language model"

    @property
    def warning(self) -> str:
        """That it guesses, where its proof says so; else empty."""
        if self.describer is None or self.proof["reads"]:
            return ""
        return (
            "推測です。学習した説明器はベクトルを読み取れていません。"
            if self.language == "ja"
            else "a guess: the proof of this describer says that it does not read the vector"
        )

    def look_at(self, paths: Sequence[Path]) -> Iterator[Subject]:
        """Look at photographs.

        Raises:
            InputError: one cannot be read; or the run looks with something else than when it learnt.
        """
        if self._look is None:
            self._look = look_of(self.run, self._room.photo_encoder)
            learnt = self.facts.get("eye", {}).get("fingerprint")
            if self.describer is not None and learnt != self._look.fingerprint:
                raise InputError(
                    f"{self.run}: its describer learnt from {self.facts['eye']['name']}, and the run looks with "
                    f"{self._look.name} as it is now; `mekiki describe-train` again"
                )
        memory = remembered(self._room) if self._k else None
        for seen in self._look.extract(paths):
            if seen.whole is None or seen.pixels is None:
                raise InputError(f"{seen.path}: {seen.problem}")
            near: list[dict[str, Any]] = []
            if memory is not None:
                # What a sharpened eye reads stands behind what cases are remembered by.
                vector = seen.whole[: memory.store.encoder.dimension]
                near = find_similar(memory, vector, seen.pixels, self._k)
            places = None if seen.places is None else seen.places[None]
            yield Subject(str(seen.path), PartVectors(seen.whole[None], places), seen.pixels, near)

    def of_vectors(self, table: Path) -> Iterator[Subject]:
        """Vectors of one's own, all of a file.

        Raises:
            InputError: the describer did not learn from vectors of this length.
        """
        if self.describer is None:
            raise InputError(
                f"{self.run}: has no describer; `mekiki describe-train {self.run} --texts FILE --vectors FILE` "
                "makes one"
            )
        read = read_vectors(table)
        needed = self.facts["eye"]["dimension"]
        if self.describer.projector.grid is not None or read.vectors.shape[1] != needed:
            raise InputError(
                f"{table}: holds vectors of length {read.vectors.shape[1]}, and the describer learnt from "
                f"{self.facts['eye']['name']} of length {needed}"
            )
        for row, name in enumerate(read.names):
            yield Subject(name, PartVectors(read.vectors[row : row + 1], None), None)

    def stream(self, subject: Subject, ask: str | None = None) -> Iterator[str]:
        """What is to be said of a part, in words, piece by piece.

        Args:
            subject: the part.
            ask: another question than the usual one, for a language model.

        Raises:
            InputError: as `check`.
        """
        self.check(ask)
        if self.describer is None:
            yield template_text(subject.near, self.language)
            return
        yield from self.describer.stream(subject.part, self.question(subject, "text", ask))

    def report(self, subject: Subject, ask: str | None = None) -> dict[str, Any]:
        """What is to be said of a part, in fields: valid by `schema`.

        Returns:
            `file`, the fields of `mekiki.describing.answer.FIELDS`, the ids of the `cases` it rests on, `method`,
            `language` and `warning`.
        """
        self.check(ask)
        fields = self.fields(subject, ask)
        if not fields:
            raise InputError(
                f"{self.run}: its describer learnt from texts alone; give texts with the columns defect, place and "
                "severity for answers in fields, or leave out --format json"
            )
        return self.told(subject, fields)

    def told(self, subject: Subject, fields: Mapping[str, str]) -> dict[str, Any]:
        """An answer in fields, with what it rests on and what is to be known of it."""
        return {
            "file": subject.name,
            **fields,
            "cases": self.cited(subject, fields),
            "method": self.method,
            "language": self.language,
            "warning": self.warning,
        }

    def fields(self, subject: Subject, ask: str | None = None) -> dict[str, str]:
        """The fields alone; none where a small decoder learnt from texts that had none."""
        if self.describer is None:
            return template_fields(subject.near)
        if not self.describer.values and self.describer.lm.own:
            return {}
        (fields,) = self.describer.reports(
            subject.part, self.language, ask=self.question(subject, "fields", ask)
        )
        return fields

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of `report`."""
        values = {} if self.describer is None else self.describer.values
        schema = json_schema(values)
        text = {"type": "string"}
        schema["properties"] |= {
            "file": text,
            "method": {"enum": ["decoder", "language model", "template"]},
            "language": {"enum": list(LANGUAGES)},
            "warning": text,
        }
        schema["required"] = list(schema["properties"])
        return schema

    def question(self, subject: Subject, kind: str, ask: str | None = None) -> str:
        """What is asked, with past cases where a language model can read them."""
        usual = ask or ASKS[self.language][kind]
        if self.describer is None or self.describer.lm.own or not subject.near:
            return usual
        told = "\n".join(f"[{case['id']}] {case['label']}: {case['note']}" for case in subject.near)
        if self.language == "ja":
            return f"{usual}\n\n似ている過去の事例:\n{told}\n根拠にした事例の番号を角括弧で示してください。"
        return f"{usual}\n\nPast cases most like this part:\n{told}\nName those you rely on by their id in brackets."

    def cited(self, subject: Subject, fields: Mapping[str, str], text: str = "") -> list[str]:
        """Ids of the past cases that an answer rests on.

        Those that a language model names; ids that it was not given do not count. A small decoder reads no cases: of
        the nearest it rests on those that bear the name of the defect it says.
        """
        near = [str(case["id"]) for case in subject.near]
        if self.method == "template":
            return near
        if self.method == "language model":
            said = text + " ".join(fields.values())
            return [id_ for id_ in near if id_ in re.findall(r"\[(\w+)\]", said)]
        said = fields.get("defect", "")
        return [str(case["id"]) for case in subject.near if case["label"] == said]

    def rests_on(
        self, subject: Subject, said: str, fields: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The past cases that a description in words rests on, as `mekiki search` tells them.

        Args:
            subject: the part.
            said: the description.
            fields: what is said of it in fields, where that is at hand.
        """
        if not subject.near:
            return []
        if self.method != "decoder":
            fields = {}
        cited = self.cited(subject, self.fields(subject) if fields is None else fields, said)
        return [case for case in subject.near if case["id"] in cited]

    def check(self, ask: str | None) -> None:
        """Refuse what cannot be asked.

        Raises:
            InputError: another question than the usual one, but no language model that knows more than it learnt here.
        """
        if ask is not None and self.method != "language model":
            raise InputError(
                "--ask goes with a language model (describe-train --lm); without one there is one question"
            )


def remembered(run_memory: RunMemory) -> Memory | None:
    """What a run remembers of photographs; `None` if it never remembered any.

    Raises:
        InputError: its cases are of another encoder, or cannot be reached.
    """
    return run_memory.memory("images") if run_memory.exists else None


def speaker_of(run: Path) -> str:
    """What speaks for a run, as `Explainer.method` has it; nothing is loaded.

    Example:
        >>> import tempfile
        >>> speaker_of(Path(tempfile.mkdtemp()))
        'template'
    """
    try:
        facts = json.loads((run / DESCRIBER / DESCRIBER_SETTINGS).read_text(encoding="utf-8"))
        return "decoder" if facts["lm"]["own"] else "language model"
    except (OSError, ValueError, LookupError, TypeError):  # none, or damaged: asked to speak, it says so
        return "template"

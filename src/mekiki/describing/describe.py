"""`RunDescriber`: descriptions of photographs by a run folder, with the past cases that they rest on."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mekiki.cases.run_memory import RunMemory
from mekiki.cases.search import find_similar
from mekiki.data.image_set import Pixels
from mekiki.describing.describer import LONGEST, Describer
from mekiki.describing.endpoint import Endpoint, RemoteDescriber, write_requests
from mekiki.describing.part_features import PartExtractor
from mekiki.describing.projector import PartVectors
from mekiki.describing.schema import FIELDS, LANGUAGES, QUESTIONS, json_schema
from mekiki.describing.train_describer import page_metadata
from mekiki.errors import InputError, not_known
from mekiki.report.description_page import DescribedPart, DescriptionPage, write_description_page
from mekiki.storage.atomic import recover_folder, replace_file
from mekiki.storage.run_folder import DESCRIBER, DESCRIBER_SETTINGS
from mekiki.storage.vector_table import read_vectors

CASES = 3
"""Past cases that an answer may rest on, and that a template answer quotes at most."""


@dataclass(frozen=True, eq=False)
class PartInput:
    """One part to be described.

    Attributes:
        name: name of the file, or of the vector.
        vectors: its vectors.
        pixels: the photograph as the feature extractor gets it; `None` for a vector.
        near: the nearest past cases, as `mekiki search` gives them.
    """

    name: str
    vectors: PartVectors
    pixels: Pixels | None
    near: list[dict[str, Any]] = field(default_factory=list)


class RunDescriber:
    """Descriptions by a run's describer or, without one, by a template of the nearest past cases.

    Args:
        run: the run folder.
        language: `en` or `ja`; `None` is the language of most training texts.
        cases: number of past cases that an answer may rest on, where the run has a case memory.
        four_bit: keep a language model's weights in four bits.
        run_memory: the run's case memory, where it is open already.
        endpoint: address of a vLLM server that answers in place of the language model here.
        served_model: the server's name for the language model; `None` is the name it was trained with.

    Attributes:
        describer: `None` without one.
        metadata: of the describer; empty without one.
        grounding: result of the grounding test under its stored keys; empty without a describer.

    Raises:
        InputError: the describer cannot be read, the language is not known, or a server cannot have its model.
    """

    def __init__(
        self,
        run: Path,
        *,
        language: str | None = None,
        cases: int = CASES,
        four_bit: bool = False,
        run_memory: RunMemory | None = None,
        endpoint: str | None = None,
        served_model: str | None = None,
    ) -> None:
        if language is not None and language not in LANGUAGES:
            raise not_known("language", language, LANGUAGES)
        self.run, self._k = run, cases
        recover_folder(run / DESCRIBER)
        self.describer: Describer | None = None
        self.metadata: dict[str, Any] = {}
        if (run / DESCRIBER).is_dir():
            self.describer, self.metadata = Describer.load(run / DESCRIBER, four_bit=four_bit)
        self.grounding: dict[str, Any] = self.metadata.get("proof", {})
        self.language = language or (self.metadata.get("languages") or ["en"])[0]
        self._memory = run_memory or RunMemory(run)
        self._extractor: PartExtractor | None = None
        self._answers: Describer | RemoteDescriber | None = self.describer
        if endpoint is not None:
            describer = self._with_language_model()
            self._answers = RemoteDescriber(describer, Endpoint(endpoint, served_model or describer.lm.name))

    def in_language(self, language: str) -> Self:
        """The same in another language, if it knows it: a small model knows the languages of its training texts."""
        known = self.metadata.get("languages", LANGUAGES) if self.method == "decoder" else LANGUAGES
        other = copy.copy(self)
        if language in known:
            other.language = language
        return other

    @property
    def method(self) -> str:
        """What makes the descriptions: `decoder` (a small model from scratch), `language model` or `template`."""
        if self.describer is None:
            return "template"
        return "decoder" if self.describer.lm.from_scratch else "language model"

    @property
    def warning(self) -> str:
        """A warning if the describer failed its grounding test; else empty."""
        if self.describer is None or self.grounding["reads"]:
            return ""
        return (
            "推測です。この説明モデルは、根拠の検証の結果、ベクトルを読み取れていません。"
            if self.language == "ja"
            else "a guess: this describer was at chance in its grounding test, so it does not read the vector"
        )

    def read_photos(self, paths: Sequence[Path]) -> Iterator[PartInput]:
        """Photographs as inputs.

        Raises:
            InputError: one cannot be read, or the run's encoder has changed since the describer was trained.
        """
        if self._extractor is None:
            self._extractor = PartExtractor(self.run, self._memory.photo_encoder)
            encoder = self.metadata.get("eye", {})
            if self.describer is not None and encoder.get("fingerprint") != self._extractor.fingerprint:
                raise InputError(
                    f"{self.run}: its describer was trained on vectors of {encoder['name']}, and the run now has "
                    f"those of {self._extractor.name}; `mekiki describe-train` again"
                )
        memory = self._memory.memory("images") if self._k and self._memory.exists else None
        for photo, vectors in self._extractor.extract(paths):
            if vectors is None or photo.pixels is None:
                raise InputError(f"{photo.path}: {photo.problem}")
            near: list[dict[str, Any]] = []
            if memory is not None:
                # A localiser's predictions are appended to the vector under which cases are remembered.
                vector = vectors.whole[0, : memory.store.encoder.dimension]
                near = find_similar(memory, vector, photo.pixels, self._k)
            yield PartInput(str(photo.path), vectors, photo.pixels, near)

    def read_vectors(self, path: Path) -> Iterator[PartInput]:
        """All vectors of a table as inputs.

        Raises:
            InputError: there is no describer, or it was not trained on vectors of this length.
        """
        if self.describer is None:
            raise InputError(
                f"{self.run}: has no describer; `mekiki describe-train {self.run} --texts FILE --vectors FILE` "
                "makes one"
            )
        table = read_vectors(path)
        encoder = self.metadata["eye"]
        if self.describer.projector.grid is not None or table.vectors.shape[1] != encoder["dimension"]:
            raise InputError(
                f"{path}: holds vectors of length {table.vectors.shape[1]}, and the describer was trained on "
                f"{encoder['name']} of length {encoder['dimension']}"
            )
        for row, name in enumerate(table.names):
            yield PartInput(name, PartVectors(table.vectors[row : row + 1], None), None)

    def stream(self, part: PartInput, question: str | None = None) -> Iterator[str]:
        """A description in words, in pieces as they are generated.

        Args:
            part: the part.
            question: another question than the usual one, for a language model.

        Raises:
            InputError: as `check_question`.
        """
        self.check_question(question)
        if self._answers is None:
            yield template_text(part.near, self.language)
            return
        yield from self._answers.stream(part.vectors, self.question(part, "text", question))

    def fields(self, part: PartInput, question: str | None = None) -> dict[str, str]:
        """A description in fields; empty where a small model was trained on texts without fields."""
        if self.describer is None or self._answers is None:
            return template_fields(part.near)
        if not self.describer.values and self.describer.lm.from_scratch:
            return {}
        question = self.question(part, "fields", question)
        (fields,) = self._answers.answer_fields(part.vectors, self.language, question=question)
        return fields

    def report(self, part: PartInput, question: str | None = None) -> dict[str, Any]:
        """A description in fields with its circumstances, valid by `schema`.

        Returns:
            `file`, the fields of `mekiki.describing.schema.FIELDS`, the ids of the `cases` it rests on, `method`,
            `language` and `warning`.
        """
        self.check_question(question)
        fields = self.fields(part, question)
        if not fields:
            raise InputError(
                f"{self.run}: its describer was trained on texts without fields; give texts with the columns defect, "
                "place and severity for answers in fields, or leave out --format json"
            )
        return {
            "file": part.name,
            **fields,
            "cases": [str(case["id"]) for case in self._select_cited(part, fields)],
            "method": self.method,
            "language": self.language,
            "warning": self.warning,
        }

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of `report`."""
        schema = json_schema({} if self.describer is None else self.describer.values)
        text = {"type": "string"}
        schema["properties"] |= {
            "file": text,
            "method": {"enum": ["decoder", "language model", "template"]},
            "language": {"enum": list(LANGUAGES)},
            "warning": text,
        }
        schema["required"] = list(schema["properties"])
        return schema

    def question(self, part: PartInput, kind: str, question: str | None = None) -> str:
        """The question, with the nearest past cases where a language model can read them."""
        question = question or QUESTIONS[self.language][kind]
        if self.describer is None or self.describer.lm.from_scratch or not part.near:
            return question
        cases = "\n".join(map(_case_line, part.near))
        if self.language == "ja":
            return (
                f"{question}\n\n似ている過去の事例:\n{cases}\n根拠にした事例の番号を角括弧で示してください。"
            )
        request = "Name those you rely on by their id in brackets."
        return f"{question}\n\nPast cases most like this part:\n{cases}\n{request}"

    def cited_cases(
        self, part: PartInput, text: str, fields: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The past cases that a description in words rests on, as `mekiki search` gives them.

        Args:
            part: the part.
            text: the description.
            fields: the description in fields, where it is at hand.
        """
        if self.method != "decoder" or not part.near:
            fields = {}
        return self._select_cited(part, self.fields(part) if fields is None else fields, text)

    def _select_cited(
        self, part: PartInput, fields: Mapping[str, str], text: str = ""
    ) -> list[dict[str, Any]]:
        """Of the nearest cases, those that a language model cites; with a small model, those of the same defect."""
        if self.method == "template":
            return part.near
        if self.method == "decoder":
            return [case for case in part.near if case["label"] == fields.get("defect", "")]
        ids = re.findall(r"\[(\w+)\]", text + " ".join(fields.values()))
        return [case for case in part.near if str(case["id"]) in ids]

    def check_question(self, question: str | None) -> None:
        """Check that another question than the usual one can be answered.

        Raises:
            InputError: there is no language model that knows more than its training texts.
        """
        if question is not None and self.method != "language model":
            raise InputError(
                "--ask goes with a language model (describe-train --lm); without one there is one question"
            )

    def _with_language_model(self) -> Describer:
        if self.describer is None or self.describer.lm.from_scratch:
            raise InputError(
                f"{self.run}: has no language model that a server could have; "
                "`mekiki describe-train … --lm NAME` gives it one"
            )
        return self.describer

    def write_page(self, parts: Iterable[PartInput], path: Path, question: str | None = None) -> int:
        """Write a page of each photograph with its description, and the grounding test; returns their number.

        Raises:
            InputError: the file does not end in .html, or its folder does not exist.
        """
        if path.suffix != ".html" or path.is_dir():
            raise InputError(f"{path}: give a file that ends in .html")
        if not path.parent.is_dir():
            raise InputError(f"{path.parent}: no such folder; make it first")
        cards = []
        for part in parts:
            text = "".join(self.stream(part, question))
            fields = self.fields(part)
            cases = [_case_line(case) for case in self.cited_cases(part, text, fields)]
            cards.append(DescribedPart(part.name, text, fields, part.pixels, cases))
        metadata = page_metadata(self.metadata) if self.describer else {}
        with replace_file(path) as temporary:
            page = DescriptionPage("Described", cards, self.grounding, metadata, self.warning, self.language)
            write_description_page(temporary, page)
        return len(cards)

    def write_requests(self, parts: Iterable[PartInput], path: Path, question: str | None = None) -> int:
        """Write what a vLLM server would be sent about each part, one JSON object a line; returns their number.

        Raises:
            InputError: the run has no language model.
        """
        describer = self._with_language_model()
        prompts = (
            (
                part.name,
                describer.prompt_embeddings(part.vectors, self.question(part, "text", question))[0][0],
            )
            for part in parts
        )
        return write_requests(path, prompts, describer.lm.name, max_tokens=LONGEST)


def method_of(run: Path) -> str:
    """What makes a run's descriptions, as `RunDescriber.method`; nothing is loaded.

    Example:
        >>> import tempfile
        >>> method_of(Path(tempfile.mkdtemp()))
        'template'
    """
    try:
        metadata = json.loads((run / DESCRIBER / DESCRIBER_SETTINGS).read_text(encoding="utf-8"))
        return "decoder" if metadata["lm"]["own"] else "language model"
    except (OSError, ValueError, LookupError, TypeError):  # none, or damaged, which `RunDescriber` reports
        return "template"


def _case_line(case: Mapping[str, Any]) -> str:
    return f"[{case['id']}] {case['label']}: {case['note']}"


def template_text(cases: Sequence[Mapping[str, Any]], language: str) -> str:
    """The nearest past cases in words.

    Args:
        cases: as `mekiki.cases.search` gives them, the nearest first.
        language: `en` or `ja`.

    Example:
        >>> print(template_text([{"id": "3fa9c1d2", "label": "crack", "note": "new die"}], "en").partition(". ")[2])
        The nearest past case is [3fa9c1d2], crack: new die.
    """
    if language == "ja":
        notice = "定型文による回答です（学習済みの説明モデルがまだありません）。"
        if not cases:
            return notice + "参考になる過去の事例もありません。"
        return f"{notice}最も近い過去の事例は{'、'.join(_template_case(case, '：') for case in cases[:CASES])}です。"
    notice = "Template answer: no describer has been trained for this run yet. "
    if not cases:
        return notice + "There is no past case either."
    names = [_template_case(case, ": ") for case in cases[:CASES]]
    return f"{notice}The nearest past case{' is' if len(names) == 1 else 's are'} {'; '.join(names)}."


def template_fields(cases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same in fields: the most frequent label as the defect, and "unknown" for the other fields.

    Example:
        >>> template_fields([{"label": "crack"}, {"label": "pit"}, {"label": "crack"}])["defect"]
        'crack'
    """
    labels = [str(case["label"]) for case in cases if case.get("label")]
    fields = dict.fromkeys(FIELDS, "unknown")
    if labels:
        fields["defect"] = Counter(labels).most_common(1)[0][0]
    return fields


def _template_case(case: Mapping[str, Any], colon: str) -> str:
    label, note = str(case.get("label") or "").strip(), str(case.get("note") or "").strip().rstrip(".。")
    text = label + (colon + note if label and note else note)
    return f"[{case['id']}]" + (f", {text}" if text and colon == ": " else text)

"""`mekiki describe-train`: a run folder learns to describe what it looks at, and proves that it reads the vectors."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.describing.answer import ASKS, ATTRIBUTES, Text
from mekiki.describing.describer import Describer
from mekiki.describing.fit_describer import Schooling, learn
from mekiki.describing.grounding import prove
from mekiki.describing.language_model import LanguageModel
from mekiki.describing.linear_probe import readable
from mekiki.describing.part_features import Look, look_of
from mekiki.describing.part_vectors import PartVectors
from mekiki.describing.texts import Row, located, read_texts, texts_of_parts
from mekiki.errors import InputError
from mekiki.report.description_page import DescribedPart, DescriptionPage, write_description_page
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import replace_folder_with_manifest
from mekiki.storage.run import versions
from mekiki.storage.run_folder import DESCRIBER, DESCRIBER_CHECKPOINT, GROUNDING, REPORT
from mekiki.storage.vector_table import read_vectors

EXAMPLES = 12
"""Parts on the page of a learning, which it had not seen."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """Which language model speaks.

    Attributes:
        lm: name or folder; `None` makes a small one from the texts.
        adapter: folder of a PEFT adapter, such as Unsloth writes, put on it.
        lora: rank of a low-rank change that is learnt too.
        four_bit: keep its weights in four bits (CUDA).
    """

    lm: str | None = None
    adapter: Path | None = None
    lora: int | None = None
    four_bit: bool = False

    def __post_init__(self) -> None:
        if self.lm is None and (self.adapter or self.lora or self.four_bit):
            raise InputError("--adapter, --lora and --four-bit go with --lm, the language model they change")

    def load(self) -> LanguageModel | None:
        """The language model, or `None` for one of its own."""
        if self.lm is None:
            return None
        return LanguageModel.load(self.lm, adapter=self.adapter, four_bit=self.four_bit)


def describe_train(
    run: Path,
    texts: Path,
    *,
    lm_config: LanguageModelConfig | None = None,
    vectors: Path | None = None,
    schooling: Schooling | None = None,
    resume: bool = False,
    command: str = "",
    progress: Progress = silent,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Learn to describe parts from texts, prove it on parts kept apart, and keep it in the run folder.

    What was there before stays in force until the new one is whole. After an interruption `resume` goes on from the
    last whole epoch.

    Args:
        run: what photographs are looked at with; with `vectors`, any folder.
        texts: .csv file of what people wrote; see `mekiki.describing.texts`.
        lm_config: the language model.
        vectors: .npz, .parquet or .csv of vectors by name, in place of photographs.
        schooling: how it learns.
        resume: go on with a learning that was interrupted.
        command: the command line, for the record.
        progress: told of each step.
        on_epoch: told after each epoch.

    Returns:
        The `proof`, the number of `parts` and `texts`, the `lm`, `epochs`, and where the `report` is.

    Raises:
        InputError: the run, the texts or the language model cannot be used, or there are too few texts.
    """
    lm_config = lm_config or LanguageModelConfig()
    schooling = schooling or Schooling()
    rows = read_texts(texts)
    look = look_of(run) if vectors is None else None
    parts, which, names, extractor = _parts(look, rows, texts, vectors, progress)
    said = texts_of_parts(rows, which)
    lm = lm_config.load()
    run.mkdir(parents=True, exist_ok=True)
    with hold_lock(run / DESCRIBER, "learning to describe", timeout=0, role="training"):
        checkpoint = run / DESCRIBER_CHECKPOINT
        describer, deal, history = learn(
            parts,
            said,
            lm,
            schooling=schooling,
            lora=lm_config.lora,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
            on_epoch=on_epoch,
        )
        proof = prove(
            describer,
            parts,
            said,
            deal.prove,
            readable=readable(parts, said, deal.teach, deal.prove),
            seed=schooling.seed,
            progress=progress,
        ).to_dict()
        facts = {
            "eye": extractor,
            "proof": proof,
            "parts": {name: len(getattr(deal, name)) for name in ("teach", "stop", "prove")},
            "texts": len(said),
            "languages": [each for each, _ in Counter(text.language for text in said).most_common()],
            "held_out": [str(names[row]) if vectors else _relative(names[row], texts) for row in deal.prove],
            "texts_file": {"path": str(texts), "sha256": hashlib.sha256(texts.read_bytes()).hexdigest()},
            "schooling": asdict(schooling),
            "history": history,
            "command": command,
            "versions": versions(),
        }
        with replace_folder_with_manifest(run / DESCRIBER, run, "writing its describer") as new:
            describer.save(new, finite(facts))
            write_json(new / GROUNDING, proof)
            shown = _examples(describer, parts, said, names, deal.prove, look)
            page = DescriptionPage(
                "Descriptions of parts that were not used in training", shown, proof, schooling_facts(facts)
            )
            write_description_page(new / REPORT, page)
        for left in run.glob(f"*{DESCRIBER_CHECKPOINT}"):
            left.unlink()
        return {
            "proof": proof,
            "parts": len(parts.whole),
            "texts": len(said),
            "lm": describer.lm.name,
            "epochs": len(history["epoch"]),
            "report": str(run / DESCRIBER / REPORT),
        }


def schooling_facts(facts: dict[str, Any]) -> dict[str, str]:
    """How it learnt, for the foot of a page."""
    dealt = facts["parts"]
    return {
        "texts": f"{facts['texts']:,} on {sum(dealt.values()):,} parts; {dealt['teach']:,} parts taught, "
        f"{dealt['stop']:,} said when to stop, {dealt['prove']:,} were kept for the proof",
        "looks with": str(facts["eye"]["name"]),
        "epochs": str(len(facts["history"]["epoch"])),
        "command": facts["command"],
    }


def _parts(
    look: Look | None, rows: Sequence[Row], texts: Path, vectors: Path | None, progress: Progress
) -> tuple[PartVectors, list[int], list[Path | str], dict[str, Any]]:
    """Vectors of what the rows are about, which of them each row means, their names, and whose they are."""
    if look is None:
        assert vectors is not None
        table = read_vectors(vectors)
        place = {name: row for row, name in enumerate(table.names)}
        lost = next((row.file for row in rows if row.file not in place), None)
        if lost is not None:
            raise InputError(f"{texts}: {lost or 'a line without a file'} is no name in {vectors}")
        extractor = {"name": "vectors given", "fingerprint": "", "dimension": int(table.vectors.shape[1])}
        return (
            PartVectors(table.vectors, None),
            [place[row.file] for row in rows],
            list(table.names),
            extractor,
        )
    files, which = located(rows, texts)
    seen = list(look.extract(files, progress=progress))
    bad = next((one for one in seen if one.whole is None), None)
    if bad is not None:
        raise InputError(f"{bad.path}: {bad.problem}; mend it, or leave it out of {texts}")
    whole = np.stack([one.whole for one in seen if one.whole is not None])
    places = (
        None if seen[0].places is None else np.stack([one.places for one in seen if one.places is not None])
    )
    extractor = {"name": look.name, "fingerprint": look.fingerprint, "dimension": int(whole.shape[1])}
    return PartVectors(whole, places), which, list(files), extractor


def _examples(
    describer: Describer,
    parts: PartVectors,
    texts: Sequence[Text],
    names: Sequence[Path | str],
    held: NDArray[np.intp],
    look: Look | None,
) -> list[DescribedPart]:
    """Some of the parts that it has not seen, with what was written and what it says."""
    first = {text.part: text for text in reversed(texts)}
    rows = [int(row) for row in held[:EXAMPLES]]
    pixels = dict.fromkeys(rows)
    if look is not None:
        seen = look.extract([Path(names[row]) for row in rows])
        pixels = {row: one.pixels for row, one in zip(rows, seen, strict=True)}
    shown = []
    for row in rows:
        text, part = first[row], parts.rows(slice(row, row + 1))
        fields = describer.reports(part, text.language)[0] if describer.values else {}
        shown.append(
            DescribedPart(
                str(names[row]),
                "".join(describer.stream(part, ASKS[text.language]["text"])),
                fields,
                pixels[row],
                reference=text.text,
                truth={name: text.fields[name] for name in ATTRIBUTES if name in text.fields},
            )
        )
    return shown


def _relative(file: Path | str, texts: Path) -> str:
    """A photograph as the table of texts names it, where it lies below it."""
    path = Path(file)
    return path.relative_to(texts.parent).as_posix() if path.is_relative_to(texts.parent) else str(path)

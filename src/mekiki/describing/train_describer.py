"""`mekiki describe-train`: train a describer for a run, test its grounding, and keep it in the run folder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.image_set import Pixels
from mekiki.describing.describer import Describer
from mekiki.describing.fit_describer import fit_describer
from mekiki.describing.grounding import evaluate_grounding, linear_probes
from mekiki.describing.language_model import LanguageModel
from mekiki.describing.part_features import PartExtractor, pixels_of
from mekiki.describing.part_training import OnEpoch, TrainConfig
from mekiki.describing.projector import PartVectors
from mekiki.describing.schema import ATTRIBUTES, QUESTIONS
from mekiki.describing.texts import PartText, find_photos, read_texts
from mekiki.errors import InputError
from mekiki.report.description_page import DescribedPart, DescriptionPage, write_description_page
from mekiki.storage.json_files import finite, write_json
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import replace_folder_with_manifest
from mekiki.storage.run_folder import DESCRIBER, DESCRIBER_CHECKPOINT, GROUNDING, REPORT
from mekiki.storage.training_run import versions
from mekiki.storage.vector_table import read_vectors

EXAMPLES = 12
"""Test parts on the report's page."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """Choice of the language model.

    Attributes:
        lm: name or folder; `None` makes a small one from the texts.
        adapter: folder of a PEFT adapter for it, such as Unsloth writes.
        lora: rank of trainable low-rank changes.
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
        """The language model, or `None` for a small one from scratch."""
        if self.lm is None:
            return None
        return LanguageModel.load(self.lm, adapter=self.adapter, four_bit=self.four_bit)


def train_describer(
    run: Path,
    texts: Path,
    *,
    lm_config: LanguageModelConfig | None = None,
    vectors: Path | None = None,
    config: TrainConfig | None = None,
    resume: bool = False,
    command: str = "",
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
) -> dict[str, Any]:
    """Train a describer on texts, test its grounding on held-out parts, and keep it in the run folder.

    An earlier describer stays until the new one is complete. After an interruption `resume` continues from the last
    whole epoch.

    Args:
        run: run folder whose encoder is used; with `vectors`, any folder.
        texts: .csv file of texts; see `mekiki.describing.texts`.
        lm_config: the language model.
        vectors: .npz, .parquet or .csv of vectors by name, in place of photographs.
        config: settings of the training.
        command: the command line, for the record.
        resume: continue an interrupted training.
        progress: called after each step.
        on_epoch: called with the history's row after each epoch.

    Returns:
        The grounding test as `proof`, the number of `parts` and `texts`, the `lm`, the number of `epochs`, and the path
        of the `report`.

    Raises:
        InputError: the run, the texts or the language model cannot be used, or there are too few texts.
    """
    lm_config = lm_config or LanguageModelConfig()
    config = config or TrainConfig()
    part_texts = read_texts(texts)
    extractor = None
    if vectors is None:
        extractor = PartExtractor(run)
        photos, part_texts = find_photos(part_texts, texts)
        parts = _extract(extractor, photos, texts, progress)
        names = [_relative(photo, texts) for photo in photos]
        encoder = {"name": extractor.name, "fingerprint": extractor.fingerprint}
    else:
        photos = []
        parts, names, part_texts = _read_parts(vectors, part_texts, texts)
        encoder = {"name": "vectors given", "fingerprint": ""}
    lm = lm_config.load()
    run.mkdir(parents=True, exist_ok=True)
    with hold_lock(run / DESCRIBER, "training a describer", timeout=0, role="training"):
        describer, split, history = fit_describer(
            parts,
            part_texts,
            lm,
            config=config,
            lora=lm_config.lora,
            checkpoint=run / DESCRIBER_CHECKPOINT,
            resume=resume,
            progress=progress,
            on_epoch=on_epoch,
        )
        grounding = evaluate_grounding(
            describer,
            parts,
            part_texts,
            split.test,
            probes=linear_probes(parts, part_texts, split.train, split.test),
            seed=config.seed,
            progress=progress,
        ).to_dict()
        languages = Counter(text.language for text in part_texts)
        metadata = {
            "eye": encoder | {"dimension": int(parts.whole.shape[1])},
            "proof": grounding,
            "parts": {"teach": len(split.train), "stop": len(split.validation), "prove": len(split.test)},
            "texts": len(part_texts),
            "languages": [language for language, _ in languages.most_common()],
            "held_out": [names[row] for row in split.test],
            "texts_file": {"path": str(texts), "sha256": hashlib.sha256(texts.read_bytes()).hexdigest()},
            "schooling": config.to_dict(),
            "history": history,
            "command": command,
            "versions": versions(),
        }
        examples = split.test[:EXAMPLES]
        shown = [str(photos[row]) if photos else names[row] for row in examples]
        with replace_folder_with_manifest(run / DESCRIBER, run, "writing its describer") as new:
            describer.save(new, finite(metadata))
            write_json(new / GROUNDING, grounding)
            page = DescriptionPage(
                "Descriptions of parts that were not used in training",
                _describe_examples(describer, parts, part_texts, examples, shown, extractor),
                grounding,
                page_metadata(metadata),
            )
            write_description_page(new / REPORT, page)
        for path in run.glob(f"*{DESCRIBER_CHECKPOINT}"):
            path.unlink()
        return {
            "proof": grounding,
            "parts": len(parts.whole),
            "texts": len(part_texts),
            "lm": describer.lm.name,
            "epochs": len(history["epoch"]),
            "report": str(run / DESCRIBER / REPORT),
        }


def page_metadata(metadata: dict[str, Any]) -> dict[str, str]:
    """How a describer was trained, for the end of a page."""
    parts = metadata["parts"]
    return {
        "texts": f"{metadata['texts']:,} on {sum(parts.values()):,} parts: {parts['teach']:,} for training, "
        f"{parts['stop']:,} for validation, {parts['prove']:,} for the grounding test",
        "vectors": str(metadata["eye"]["name"]),
        "epochs": str(len(metadata["history"]["epoch"])),
        "command": metadata["command"],
    }


def _extract(
    extractor: PartExtractor, photos: Sequence[Path], texts: Path, progress: Progress
) -> PartVectors:
    vectors = []
    for photo, part in extractor.extract(photos, progress=progress):
        pixels_of(photo, texts)
        assert part is not None
        vectors.append(part)
    places = [part.places for part in vectors if part.places is not None]
    return PartVectors(
        np.concatenate([part.whole for part in vectors]), np.concatenate(places) if places else None
    )


def _read_parts(
    vectors: Path, part_texts: Sequence[PartText], texts: Path
) -> tuple[PartVectors, list[str], list[PartText]]:
    """Vectors of parts from a table, their names, and the texts with `part` numbering them."""
    table = read_vectors(vectors)
    rows = {name: row for row, name in enumerate(table.names)}
    for text in part_texts:
        if text.file not in rows:
            raise InputError(f"{texts}: {text.file or 'a line without a file'} is no name in {vectors}")
    numbered = [replace(text, part=rows[text.file]) for text in part_texts]
    return PartVectors(table.vectors, None), list(table.names), numbered


def _describe_examples(
    describer: Describer,
    parts: PartVectors,
    texts: Sequence[PartText],
    rows: NDArray[np.intp],
    names: Sequence[str],
    extractor: PartExtractor | None,
) -> list[DescribedPart]:
    """Some test parts with the description and what was written about them."""
    first = {text.part: text for text in reversed(texts)}
    pixels: list[Pixels | None] = [None] * len(rows)
    if extractor is not None:
        pixels = [photo.pixels for photo, _ in extractor.extract([Path(name) for name in names])]
    examples = []
    for row, name, image in zip(rows.tolist(), names, pixels, strict=True):
        text, part = first[row], parts.rows(slice(row, row + 1))
        examples.append(
            DescribedPart(
                name,
                "".join(describer.stream(part, QUESTIONS[text.language]["text"])),
                describer.answer_fields(part, text.language)[0] if describer.values else {},
                image,
                reference=text.text,
                truth={each: text.fields[each] for each in ATTRIBUTES if each in text.fields},
            )
        )
    return examples


def _relative(photo: Path, texts: Path) -> str:
    """A photograph as the table of texts names it, where it lies below the table's folder."""
    return photo.relative_to(texts.parent).as_posix() if photo.is_relative_to(texts.parent) else str(photo)

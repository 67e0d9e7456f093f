"""Fine-tuning of the text model from feedback.

An adapter changes how vectors are compared; this changes the model that makes them. It uses the trainer of
sentence-transformers with a triplet loss on cosine distance and, for nested dimensions, a Matryoshka loss around it
(Kusupati et al. 2022), so that the first dimensions of a vector are useful by themselves.

A fine-tuned model is another encoder. So it is written to the run folder, all notes are encoded again into a store of
their own, and the feedback is written again with the vectors of the new model. Only then is `memory.json` replaced, in
one step. A crash before that leaves the old model, store and feedback, and `untune_text_model` goes back to them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.adapter import Adapter, ranking_accuracy, split_queries
from mekiki.cases.case_triplets import SIDES, CaseTriplets, pair_judgements, read_triplet_rows
from mekiki.cases.encoders import TextEncoder
from mekiki.cases.feedback import Judgement
from mekiki.cases.remember import BLOCK, add_encoded_notes
from mekiki.cases.run_memory import MemoryConfig, RunMemory
from mekiki.cases.store import Store
from mekiki.console import Progress, silent
from mekiki.errors import InputError
from mekiki.extras import quiet_transformers, require
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import replace_folder_with_manifest
from mekiki.storage.run_folder import TEXT_MODELS
from mekiki.training.callbacks import copy_weights

Texts = tuple[str, str, str]
"""A query, a note that it wants, and one that it does not."""


@dataclass(frozen=True)
class TextModelConfig:
    """How a text model is fine-tuned.

    Attributes:
        epochs: at most; the best one on the queries for early stopping is kept.
        rate: highest learning rate of AdamW.
        batch: triplets a step.
        margin: of the loss, in cosine distance.
        nested: dimensions that should be useful by themselves, such as (384, 128, 64); empty for all together.
        dimensions: how many of them are kept from now on; `None` keeps all.
        held_out: share of the queries kept from training; half of them choose the epoch, half are for the test.
        seed: of the split and the order.
    """

    epochs: int = 4
    rate: float = 5e-5
    batch: int = 16
    margin: float = 0.4
    nested: tuple[int, ...] = ()
    dimensions: int | None = None
    held_out: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if any(each < 2 for each in self.nested):
            raise InputError(f"nested dimensions must be at least 2 each, not {list(self.nested)}")
        if self.dimensions is not None and self.nested and self.dimensions not in self.nested:
            raise InputError(
                f"{self.dimensions} is none of the nested dimensions {', '.join(map(str, self.nested))}; keep one of "
                "them"
            )


def tune_text_model(
    run_memory: RunMemory,
    *,
    triplets: Path | None = None,
    config: TextModelConfig | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fine-tune the text model of a run, and use it from now on if it is better on the test queries.

    Args:
        run_memory: of the run.
        triplets: a .csv file with the columns anchor, positive, negative, of texts or ids; `None` takes the feedback.
        config: how.
        progress: called after each step.

    Returns:
        `before` and `after` (shares of test triplets in the right order), `replaced`, `triplets`, `held_out`, `nested`
        (the share at each of the nested dimensions), `notes` encoded again, and the `model` if it is used.

    Raises:
        MissingExtraError: the extra `text` is not installed.
        InputError: there is too little to learn from, or no text model.
    """
    config = config or TextModelConfig()
    folder = run_memory.folder
    memory = run_memory.memory("notes")
    store = memory.store
    texts = _judged_texts(memory.judgements, store) if triplets is None else _read_texts(store, triplets)
    train, stop, test = (
        list(compress(texts, which.tolist()))
        for which in split_queries([query for query, *_ in texts], config.held_out, config.seed)
    )
    before = text_accuracy(
        run_memory.text_encoder.embed, test, run_memory.adapter_store("notes", store.encoder).current()
    )
    with hold_lock(folder / TEXT_MODELS, "tuning its text model", timeout=0, role="training"):
        number = 1 + max((int(each.name) for each in (folder / TEXT_MODELS).glob("[0-9]*")), default=0)
        name = f"{TEXT_MODELS}/{number:04}"
        with replace_folder_with_manifest(folder / name) as new:
            fine_tune(run_memory.text_model, train, stop, config, new, progress)
            encoder = TextEncoder(str(new), config.dimensions)
            after = text_accuracy(encoder.embed, test)
            nested = {size: text_accuracy(TextEncoder(str(new), size).embed, test) for size in config.nested}
    replaced = after > before
    notes = 0
    if replaced:
        new_config = replace(
            run_memory.config,
            text=name,
            dimensions=config.dimensions,
            generation=number,
            before=vars(run_memory.config),
        )
        notes = _use_model(run_memory, store, encoder, new_config, progress)
    else:
        shutil.rmtree(folder / name)
    return {
        "before": before,
        "after": after,
        "replaced": replaced,
        "triplets": len(train),
        "held_out": len(test),
        "nested": nested,
        "notes": notes,
        "model": str(folder / name) if replaced else None,
    }


def untune_text_model(run_memory: RunMemory) -> dict[str, Any]:
    """Take the fine-tuned text model out of use, and use what was used before it: `taken_back`.

    Raises:
        InputError: there is none.
    """
    if run_memory.config.before is None:
        raise InputError(
            f"{run_memory.folder}: its text model was not tuned here, so there is nothing to take back"
        )
    taken_back = str(run_memory.folder / str(run_memory.config.text))
    run_memory.config = MemoryConfig(**run_memory.config.before)
    run_memory.save_config()
    return {"taken_back": taken_back}


def fine_tune(
    model: str,
    train: Sequence[Texts],
    stop: Sequence[Texts],
    config: TextModelConfig,
    folder: Path,
    progress: Progress = silent,
) -> None:
    """Fine-tune a sentence-transformers model by triplets of texts, and write it to a folder as safetensors.

    Args:
        model: its name, or a folder.
        train: triplets for training.
        stop: triplets that choose the epoch; the model before training may be the best.
        config: how.
        folder: where it is written.
        progress: called after each step.
    """
    purpose = "tuning a text model"
    library = require("sentence_transformers", extra="text", purpose=purpose)
    losses = require("sentence_transformers.sentence_transformer.losses", extra="text", purpose=purpose)
    trainers = require("transformers", extra="text", purpose=purpose)
    tables = require("datasets", extra="text", purpose=purpose)
    require("accelerate", extra="text", purpose=purpose)
    tables.disable_progress_bars()
    with quiet_transformers(trainers):
        encoder = library.SentenceTransformer(model, device="cpu")
        encoder.model_card_data.generate_widget_examples = False  # they come with progress bars of their own
        metric = losses.TripletDistanceMetric.COSINE
        loss: Any = losses.TripletLoss(encoder, distance_metric=metric, triplet_margin=config.margin)
        if config.nested:
            loss = losses.MatryoshkaLoss(encoder, loss, matryoshka_dims=sorted(config.nested, reverse=True))
        embed = partial(encoder.encode, normalize_embeddings=True, show_progress_bar=False)
        best: dict[str, Any] = {"accuracy": text_accuracy(embed, stop), "state": copy_weights(encoder)}

        class KeepBest(trainers.TrainerCallback):  # type: ignore[misc, name-defined]
            """Reports progress, and keeps the best epoch."""

            def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                progress("tuning the text model", state.global_step, state.max_steps)

            def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                accuracy = text_accuracy(embed, stop)
                encoder.train()
                if accuracy > best["accuracy"]:
                    best.update(accuracy=accuracy, state=copy_weights(encoder))

        trainer = library.SentenceTransformerTrainer(
            model=encoder,
            args=library.SentenceTransformerTrainingArguments(
                output_dir=str(folder),
                num_train_epochs=config.epochs,
                per_device_train_batch_size=config.batch,
                learning_rate=config.rate,
                warmup_steps=0.1,
                seed=config.seed,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=tables.Dataset.from_dict(
                {side: list(texts) for side, texts in zip(SIDES, zip(*train, strict=True), strict=True)}
            ),
            loss=loss,
            callbacks=[KeepBest()],
        )
        trainer.remove_callback(trainers.trainer_callback.PrinterCallback)  # it prints to standard output
        trainer.train()
        encoder.load_state_dict(best["state"])
        encoder.eval()
        encoder.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)


def text_accuracy(
    embed: Callable[[list[str]], NDArray[np.float32]],
    triplets: Sequence[Texts],
    adapter: Adapter | None = None,
) -> float:
    """Share of triplets whose wanted note is nearer than the other, by the vectors that `embed` gives."""
    vectors = CaseTriplets(*(embed(list(side)) for side in zip(*triplets, strict=True)))
    return ranking_accuracy(adapter, vectors)


def _use_model(
    run_memory: RunMemory, old: Store, encoder: TextEncoder, config: MemoryConfig, progress: Progress
) -> int:
    """Encode all notes and write the feedback again, then let the configuration name the new model."""
    new = RunMemory(run_memory.folder, config).store("notes", encoder.info)
    total, done = old.count(), 0
    for cases in old.read():
        for start in range(0, len(cases), BLOCK):
            block = cases[start : start + BLOCK]
            add_encoded_notes(new, encoder, block)
            done += len(block)
            progress("encoding notes", done, total)
    _copy_feedback(run_memory, old, new, encoder)
    run_memory.config = config
    run_memory.save_config()
    return done


def _copy_feedback(run_memory: RunMemory, old: Store, new: Store, encoder: TextEncoder) -> None:
    """Write active feedback again for another encoder, where the text of its query is known."""
    entries: dict[int, list[Judgement]] = {}
    for each in run_memory.log.active("notes", old.encoder.fingerprint):
        if each.asked:
            entries.setdefault(each.entry, []).append(each)
    for judgements in entries.values():
        known = set(new.get([each.case for each in judgements]).ids)
        good, bad = (
            [each.case for each in judgements if each.good is wanted and each.case in known]
            for wanted in (True, False)
        )
        if good or bad:
            asked, who = judgements[0].asked, judgements[0].who
            run_memory.log.add(new, "notes", encoder.embed([asked])[0], good, bad, asked=asked, who=who)


def _judged_texts(judgements: Sequence[Judgement], store: Store) -> list[Texts]:
    """The texts of `pair_judgements`, for queries in words."""
    notes = {case.id: case.note for case in store.get(sorted({each.case for each in judgements}))}
    judged = [each for each in judgements if each.asked and each.case in notes]
    return pair_judgements(judged, lambda each: each.asked, lambda each: notes[each.case])


def _read_texts(store: Store, path: Path) -> list[Texts]:
    """The triplets of a .csv file, with the notes of those that are ids."""
    rows = read_triplet_rows(path)
    notes = {case.id: case.note for case in store.get(sorted({name for row in rows for name in row}))}
    return [(anchor, notes.get(good, good), notes.get(bad, bad)) for anchor, good, bad in rows]

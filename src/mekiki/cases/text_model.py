"""Tuning the text model itself: what people judged, learnt by the model that reads the notes.

An adapter changes how vectors are compared; this changes the vectors. It is done by the trainer of
sentence-transformers with a triplet loss on cosine distance, and, for nested dimensions, a Matryoshka loss around it
(Kusupati et al. 2022), so that the first so many dimensions of a vector are good by themselves.

A tuned model is another encoder. So it is kept in the run folder, all notes are embedded anew into a store of their
own, and what people said is written down anew by the vectors of the new model; only then does `memory.json`, replaced
in one step, put all of it in force. A kill before that leaves the old model, store and feedback as they were, and
`untune` gives them back exactly.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.adapter import Adapter, dealt_queries, right
from mekiki.cases.encoders import TextView
from mekiki.cases.remember import BLOCK, add_notes
from mekiki.cases.run_memory import RunMemory, Settings
from mekiki.cases.store import Store
from mekiki.cases.train_adapter import read_rows
from mekiki.cases.triplets import SIDES, Triplets
from mekiki.console import Progress, silent
from mekiki.errors import InputError
from mekiki.extras import quiet_transformers, require
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import replace_folder_with_manifest
from mekiki.storage.run_folder import TEXT_MODELS
from mekiki.training.callbacks import copy_weights


@dataclass(frozen=True)
class Tuning:
    """How a text model is tuned.

    Attributes:
        epochs: at most; the one that does best on queries held out for that is kept.
        rate: highest learning rate of AdamW.
        batch: triplets a step.
        margin: by which what is wanted should be nearer, in cosine distance.
        nested: dimensions that should be good by themselves, such as (384, 128, 64); empty for the whole alone.
        dimensions: how many of them are kept from now on; `None` keeps all.
        held_out: share of the queries that teach nothing; half of them choose the epoch, half judge.
        seed: of the deal and the order.
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


Texts = tuple[str, str, str]
"""A query, a note that it wants, and one that it does not."""


def tune(
    folder: Path,
    *,
    triplets: Path | None = None,
    tuning: Tuning | None = None,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Tune the text model of a run, and put it in force if it is better on queries that had no part in it.

    Args:
        folder: the run folder.
        triplets: a .csv file with the columns anchor, positive, negative, of texts or ids; `None` takes what people
            said.
        tuning: how.
        settings: where else to look.
        progress: told after each step.

    Returns:
        `before` and `after` (shares of held-out triplets in the right order), `replaced`, `triplets`, `held_out`,
        `nested` (the share at each of the nested dimensions), `notes` embedded anew, and the `model` if it is in force.

    Raises:
        MissingExtraError: the extra `text` is not installed.
        InputError: there is too little to learn from, or no text model.
    """
    tuning = tuning or Tuning()
    run_memory = RunMemory(folder, settings)
    memory = run_memory.memory("notes")
    given = _said(run_memory, memory.store) if triplets is None else _of_csv(memory.store, triplets)
    teach, stop, judge = dealt_queries([each[0] for each in given], tuning.held_out, tuning.seed)
    adapter = run_memory.adapter_store("notes", memory.store.encoder).current()
    held = _some(given, judge)
    before = right_by(run_memory.texts, held, adapter)
    with hold_lock(folder / TEXT_MODELS, "tuning its text model", timeout=0, role="training"):
        number = 1 + max((int(each.name) for each in (folder / TEXT_MODELS).glob("[0-9]*")), default=0)
        named = f"{TEXT_MODELS}/{number:04}"
        with replace_folder_with_manifest(folder / named) as new:
            tuned(run_memory.text_model, _some(given, teach), _some(given, stop), tuning, new, progress)
            view = TextView(str(new), tuning.dimensions)
            after = right_by(view, held, None)
            nested = {size: right_by(TextView(str(new), size), held, None) for size in tuning.nested}
    told = {
        "before": before,
        "after": after,
        "replaced": after > before,
        "triplets": int(teach.sum()),
        "held_out": len(held),
        "nested": nested,
        "notes": 0,
        "model": None,
    }
    if after > before:
        told["notes"] = _put_in_force(run_memory, memory.store, view, named, number, progress)
        told["model"] = str(folder / named)
    else:
        shutil.rmtree(folder / named)
    return told


def untune(folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    """Take the tuned text model out of force; what was before it is as it was: `taken_back`.

    Raises:
        InputError: there is none.
    """
    run_memory = RunMemory(folder, settings)
    if run_memory.settings.before is None:
        raise InputError(f"{folder}: its text model was not tuned here, so there is nothing to take back")
    gone = str(run_memory.settings.text)
    run_memory.settings = Settings(**run_memory.settings.before)
    run_memory.keep_settings()
    return {"taken_back": str(folder / gone)}


def tuned(
    model: str,
    teach: Sequence[Texts],
    stop: Sequence[Texts],
    tuning: Tuning,
    folder: Path,
    progress: Progress = silent,
) -> None:
    """Tune a sentence-transformers model by triplets of texts, and write it into a folder as safetensors.

    Args:
        model: its name, or a folder.
        teach: what it learns from.
        stop: what chooses the epoch; the model as it was may be the best.
        tuning: how.
        folder: where it goes.
        progress: told after each step.
    """
    library = require("sentence_transformers", extra="text", purpose="tuning a text model")
    parts = "sentence_transformers.sentence_transformer"
    losses = require(f"{parts}.losses", extra="text", purpose="tuning a text model")
    trainers = require("transformers", extra="text", purpose="tuning a text model")
    tables = require("datasets", extra="text", purpose="tuning a text model")
    require("accelerate", extra="text", purpose="tuning a text model")
    tables.disable_progress_bars()
    with quiet_transformers(trainers):
        encoder = library.SentenceTransformer(model, device="cpu")
        encoder.model_card_data.generate_widget_examples = False  # they come with bars of their own
        metric = losses.TripletDistanceMetric.COSINE
        loss: Any = losses.TripletLoss(encoder, distance_metric=metric, triplet_margin=tuning.margin)
        if tuning.nested:
            loss = losses.MatryoshkaLoss(encoder, loss, matryoshka_dims=sorted(tuning.nested, reverse=True))
        best: dict[str, Any] = {"right": _right(encoder, stop), "state": copy_weights(encoder)}

        class Watch(trainers.TrainerCallback):  # type: ignore[misc, name-defined]
            """Tells how far it is, and keeps the best epoch."""

            def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                progress("tuning the text model", state.global_step, state.max_steps)

            def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                now = _right(encoder, stop)
                encoder.train()
                if now > best["right"]:
                    best.update(right=now, state=copy_weights(encoder))

        trainer = library.SentenceTransformerTrainer(
            model=encoder,
            args=library.SentenceTransformerTrainingArguments(
                output_dir=str(folder),
                num_train_epochs=tuning.epochs,
                per_device_train_batch_size=tuning.batch,
                learning_rate=tuning.rate,
                warmup_steps=0.1,
                seed=tuning.seed,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=tables.Dataset.from_dict(
                {name: list(column) for name, column in zip(SIDES, zip(*teach, strict=True), strict=True)}
            ),
            loss=loss,
            callbacks=[Watch()],
        )
        trainer.remove_callback(trainers.trainer_callback.PrinterCallback)  # a command's output is its own
        trainer.train()
        encoder.load_state_dict(best["state"])
        encoder.eval()
        encoder.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)


def right_by(view: TextView, triplets: Sequence[Texts], adapter: Adapter | None) -> float:
    """Share of triplets whose wanted note is nearer than the other, as a text model sees them."""
    return right(adapter, Triplets(*(view.embed(list(column)) for column in zip(*triplets, strict=True))))


def _put_in_force(
    run_memory: RunMemory, old: Store, view: TextView, named: str, number: int, progress: Progress
) -> int:
    """Embed all notes anew, say anew what people said, and then let the settings name the new model."""
    renewed = replace(
        run_memory.settings,
        text=named,
        dimensions=view.dimensions,
        generation=number,
        before=vars(run_memory.settings),
    )
    store = RunMemory(run_memory.folder, renewed).store("notes", view.encoder)
    total, done = old.count(), 0
    for cases in old.read():
        rows = list(cases)
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            add_notes(store, view, block)
            done += len(block)
            progress("embedding notes anew", done, total)
    _say_anew(run_memory, old, store, view)
    run_memory.settings = renewed
    run_memory.keep_settings()
    return done


def _say_anew(run_memory: RunMemory, old: Store, new: Store, view: TextView) -> None:
    """Judgements hold for one encoder; those in force are written down for the new one, where their query is known."""
    goes: dict[int, list[Any]] = {}
    for each in run_memory.log.in_force("notes", old.encoder.fingerprint):
        if each.asked:
            goes.setdefault(each.go, []).append(each)
    for said in goes.values():
        good = [each.case for each in said if each.good]
        bad = [each.case for each in said if not each.good]
        there = set(new.get([*good, *bad]).ids)
        good, bad = [id_ for id_ in good if id_ in there], [id_ for id_ in bad if id_ in there]
        if good or bad:
            (query,) = view.embed([said[0].asked])
            run_memory.log.add(new, "notes", query, good, bad, asked=said[0].asked, who=said[0].who)


def _said(run_memory: RunMemory, store: Store) -> list[Texts]:
    """Of each query in words, every note judged good with every note judged bad."""
    judged = [each for each in run_memory.log.in_force("notes", store.encoder.fingerprint) if each.asked]
    notes = {case.id: case.note for case in store.get(sorted({each.case for each in judged}))}
    sides: dict[str, tuple[list[str], list[str]]] = {}
    for each in judged:
        if each.case in notes:
            sides.setdefault(each.asked, ([], []))[0 if each.good else 1].append(notes[each.case])
    found = [
        (asked, wanted, unwanted)
        for asked, (good, bad) in sides.items()
        for wanted in good
        for unwanted in bad
    ]
    if not found:
        raise InputError(
            "no query in words has both a good and a bad note, so there is nothing to learn; judge some of each"
        )
    return found


def _of_csv(store: Store, path: Path) -> list[Texts]:
    rows = read_rows(path)
    notes = {
        case.id: case.note for case in store.get(sorted({name for row in rows for name in row.values()}))
    }
    return [
        (
            row["anchor"],
            notes.get(row["positive"], row["positive"]),
            notes.get(row["negative"], row["negative"]),
        )
        for row in rows
    ]


def _some(triplets: Sequence[Texts], which: NDArray[np.bool_]) -> list[Texts]:
    return [each for each, here in zip(triplets, which.tolist(), strict=True) if here]


def _right(encoder: Any, triplets: Sequence[Texts]) -> float:
    a, p, n = (
        encoder.encode(list(column), normalize_embeddings=True, show_progress_bar=False)
        for column in zip(*triplets, strict=True)
    )
    return float(((a * p).sum(axis=1) > (a * n).sum(axis=1)).mean())

"""The files of a run folder: their names and format numbers, in this one place.

A run folder holds what these commands write:

- train: the network, its reference vectors, config, history, metrics, backbone, report, checkpoint and epochs;
- calibrate, teach, watch: the judge, the corrections with their files, the table of watched parts;
- remember, feedback: the memory's settings, cases, feedback, changes of labels, adapters, text models;
- describe-train, localise: the describer and the localiser, with their checkpoints;
- export: the ONNX graphs; the page: trainings that it started.

The folders that are replaced in one step (`UNITS`) have a `manifest.json` each. `str.format` completes the names with a
`{field}`. Other modules name the rest: those that number the files of `adapters/` and `trainings/`, the libraries that
write the tables of `cases/` and the models in `backbone`, `lm` and `text-models/`, and `lock.py`.
"""

from __future__ import annotations

MANIFEST = "manifest.json"
MANIFEST_FORMAT = "mekiki-run/1"

# Training
MODEL = "model.safetensors"
REFERENCE = "reference.safetensors"
CONFIG = "config.json"
EMBEDDER_FORMAT = "mekiki-embedder/1"
HISTORY = "history.csv"
METRICS = "metrics.json"
"""Written last: a run is complete if it has this file."""
BACKBONE = "backbone"
REPORT = "report.html"
CHECKPOINT = "checkpoint.safetensors"
EPOCHS = "epochs.json"
EPOCH_POINTS = "epochs.f32"
EVALUATION = "evaluation.json"
"""Measured later, on the run's own test images."""
EVALUATION_OF = "evaluation-{name}.json"
"""Measured on other images, by the name of their source."""
EVALUATIONS = "evaluation*.json"
"""Pattern of both."""
COMPARISON = "comparison.json"
COMPARISON_CHART = "comparison.png"
"""Both in a folder of compared runs."""

# Pictures of a training
SCATTER_TRAIN = "scatter_train.png"
SCATTER_TEST = "scatter_test.png"
LOSS_CURVE = "loss.png"
PAIR_DISTANCES = "pair_distances.png"
OVERLAP = "overlap.png"
CONFUSED_DIFFERENT = "confused_different.png"
CONFUSED_SAME = "confused_same.png"

# Judging
JUDGE = "judge"
JUDGE_SETTINGS = "judge.json"
JUDGE_ARRAYS = "judge.safetensors"
JUDGE_FORMAT = "mekiki-judge/2"
JUDGE_SCORES = "scores.png"
JUDGE_TRADE_OFF = "trade_off.png"
JUDGE_SUSPICIOUS = "suspicious.html"
CORRECTIONS = "lessons.jsonl"
CORRECTION_FILES = "lessons"
CORRECTION_PHOTO = "{number}.png"
CORRECTION_FEATURES = "{number}.safetensors"
WATCHED = "watched.csv"

# Case memory
MEMORY = "memory.json"
MEMORY_FORMAT = "mekiki-memory/1"
CASES = "cases"
FEEDBACK = "feedback.jsonl"
LABEL_CHANGES = "labels.jsonl"
ADAPTERS = "adapters"
ADAPTER_FORMAT = "mekiki-adapter/1"
TEXT_MODELS = "text-models"

# Describing
DESCRIBER = "describer"
DESCRIBER_SETTINGS = "describer.json"
DESCRIBER_FORMAT = "mekiki-describer/1"
DESCRIBER_CHECKPOINT = "describer-checkpoint.safetensors"
PROJECTOR = "projector.safetensors"
LANGUAGE_MODEL = "lm"
GROUNDING = "proof.json"
LOCALISER = "sharp"
LOCALISER_SETTINGS = "sharp.json"
LOCALISER_WEIGHTS = "sharp.safetensors"
LOCALISER_FORMAT = "mekiki-sharp/1"
LOCALISER_CHECKPOINT = "sharp-checkpoint.safetensors"

# Export, page, bulk
EXPORT = "export.onnx"
EXPORT_INT8 = "export-int8.onnx"
TRAININGS = "trainings"
BULK_ABOUT = "about.json"
BULK_PLANS = "plan"
BULK_FORMAT = "mekiki-bulk/1"

UNITS = ("", JUDGE, DESCRIBER, LOCALISER, f"{TEXT_MODELS}/*")
"""Folders of a run that are replaced in one step, each with a manifest of its own; `""` is the run itself."""

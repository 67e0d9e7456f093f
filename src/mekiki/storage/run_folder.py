"""The files of a run folder: every name and every format number, in this one place.

A run folder holds what these commands write:

- train: the network, its reference vectors, config, history, metrics, backbone, report, checkpoint and epochs;
- calibrate, teach, watch: the judge, the corrections with their files, the table of watched parts;
- remember, feedback: the memory's settings, cases, feedback, changes of labels, adapters, text models;
- describe-train, localise: the describer and the localiser, with their checkpoints;
- export: the ONNX graphs; the page: trainings that it started.

The folders that are replaced in one step (`UNITS`) have a `manifest.json` each.
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
COMPARISON = "comparison.json"
"""In a folder of compared runs."""

# Judging
JUDGE = "judge"
JUDGE_SETTINGS = "judge.json"
JUDGE_ARRAYS = "judge.safetensors"
JUDGE_FORMAT = "mekiki-judge/2"
CORRECTIONS = "lessons.jsonl"
CORRECTION_FILES = "lessons"
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

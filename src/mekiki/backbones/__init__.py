"""Pretrained encoders of photographs behind the same door as our own: whole-image and patch vectors.

A backbone is named `hf:NAME_OR_FOLDER`, a model of the Hugging Face hub or a folder that `transformers` wrote; a layer
of it `hf:NAME_OR_FOLDER#12` (extra `backbones`).
"""

from mekiki.backbones.backbone import (
    PREFIX,
    Backbone,
    Seen,
    Size,
    backbone_input_size,
    fingerprint_of,
    split_name,
)
from mekiki.backbones.prepare import Preparation
from mekiki.backbones.store import FeatureStore, feature_store_bytes
from mekiki.backbones.tuning import TunedBackbone

__all__ = [
    "PREFIX",
    "Backbone",
    "FeatureStore",
    "Preparation",
    "Seen",
    "Size",
    "TunedBackbone",
    "backbone_input_size",
    "feature_store_bytes",
    "fingerprint_of",
    "split_name",
]

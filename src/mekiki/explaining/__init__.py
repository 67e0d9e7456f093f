"""Explaining: a run folder that describes photographs in words, with the past cases it rests on."""

from mekiki.describing.learning import Schooling
from mekiki.explaining.explainer import Explainer, Subject, speaker_of
from mekiki.explaining.learning import Speaker, describe_train
from mekiki.explaining.remote import Remote
from mekiki.explaining.sharpening import sharpen
from mekiki.explaining.writing import write_descriptions, write_server_requests

__all__ = [
    "Explainer",
    "Remote",
    "Schooling",
    "Speaker",
    "Subject",
    "describe_train",
    "sharpen",
    "speaker_of",
    "write_descriptions",
    "write_server_requests",
]

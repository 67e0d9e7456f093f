"""Explaining: a run folder that describes photographs in words, with the past cases it rests on."""

"""Pretrained encoders of photographs behind the same door as our own: whole-image and patch vectors."""

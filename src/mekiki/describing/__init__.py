"""Vectors into a language model: soft tokens, what it says, and the proof that it reads them."""

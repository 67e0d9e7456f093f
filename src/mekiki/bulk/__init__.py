"""Embedding and judging of very many images with Ray."""

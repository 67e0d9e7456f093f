"""Judging parts by their vectors: how far from the good ones, with a threshold that holds what it promises."""

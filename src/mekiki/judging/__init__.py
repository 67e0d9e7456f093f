"""Judging of parts: Mahalanobis–Taguchi distances, and a threshold with a stated false-reject rate."""

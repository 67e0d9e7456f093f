"""The training loop, its checkpoints and the collapse check."""

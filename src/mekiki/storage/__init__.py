"""Files of a run folder: atomic writes, checksums, locks, event logs, vector tables."""

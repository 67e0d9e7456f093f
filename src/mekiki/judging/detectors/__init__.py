"""Detectors: patch features of OK parts → a distance for each place of a photograph; one file each."""

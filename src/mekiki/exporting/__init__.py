"""Exporting: a run as one ONNX graph, from the decoded photograph to the verdict, compared with the program first."""

from mekiki.exporting.exporting import export_run

__all__ = ["export_run"]

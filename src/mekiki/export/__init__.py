"""Export of a run as one ONNX graph."""

"""Calibration sets, the Q/DQ writer and thresholds (NumPy; onnx only inside the writer)."""

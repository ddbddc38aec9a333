"""Model -> ONNX by the graph contract -> engines -> bundle."""

"""Model -> ONNX by the graph contract -> engines -> bundle."""

from edgead.export.pipeline import BACKENDS, PRECISIONS, ExportOptions, export_bundle, installed_backends

__all__ = ["BACKENDS", "PRECISIONS", "ExportOptions", "export_bundle", "installed_backends"]

"""Trained models of other tools as edgead models: the same answers, and no pickle is ever executed."""

from edgead.importers.model import Imported, ImportOptions
from edgead.importers.recognise import import_model

__all__ = ["ImportOptions", "Imported", "import_model"]

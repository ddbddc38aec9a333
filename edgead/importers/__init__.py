"""Trained models of other tools as edgead models: the same answers, and no pickle is ever executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgead.importers.model import Imported, ImportOptions
    from edgead.importers.recognise import import_model

__all__ = ["ImportOptions", "Imported", "import_model"]


def __getattr__(name: str) -> Any:
    """Late, since the child process that looks at a foreign graph needs no torch."""
    if name not in __all__:
        raise AttributeError(name)
    from edgead.importers import model

    if name != "import_model":
        return getattr(model, name)
    from edgead.importers import recognise

    return recognise.import_model

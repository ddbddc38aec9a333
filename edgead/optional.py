"""Late imports of optional packages, with the one line that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from edgead.errors import MissingExtra


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import `module` or raise :class:`MissingExtra` that names the extra which brings it.

    Args:
        module: dotted module name, e.g. ``"openvino"``.
        extra: the edgead extra that installs it, e.g. ``"openvino"``.
        why: start of the sentence shown to the user, e.g. ``"Running an OpenVINO engine"``.

    Raises:
        MissingExtra: the package, or one that it needs itself, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise MissingExtra(
            f"{why} needs the package {missing!r}, which is not installed",
            hint=f"pip install 'edgead[{extra}]'",
        ) from error

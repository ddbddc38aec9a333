"""One exception tree. Every error carries a hint (how to fix it) and the exit code that the command line returns.

Exit codes (documented in docs/exit-codes.md): 1 internal error, 2 bad usage or bad input, 3 bundle refused, 4 parity failed,
5 missing extra, weights, registry or device support, 6 camera or output failed, 7 storage failed, 8 no engine within the budget,
130 interrupted.
"""

from __future__ import annotations

from typing import ClassVar


class EdgeadError(Exception):
    """Base of everything edgead raises on purpose: ``str(error)`` is one clear line, ``.hint`` says how to fix it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(EdgeadError):
    """What the user gave cannot be used: an empty folder, an unreadable image, a wrong value."""

    exit_code = 2


class PartNotFound(BadInput):
    """The part that the model looks at is not in the picture, or partly outside, or more than one is."""


class BundleError(EdgeadError):
    """The bundle is damaged, incomplete or not a bundle."""

    exit_code = 3


class BundleMismatch(BundleError):
    """The bundle is whole, but was built for another device, backend version or schema."""


class ParityFailed(EdgeadError):
    """An engine does not answer as the trained model did."""

    exit_code = 4


class MissingExtra(EdgeadError):
    """An optional package is not installed."""

    exit_code = 5


class WeightsMissing(EdgeadError):
    """The published weights of a backbone are not on this machine and cannot be fetched (no network, no such file)."""

    exit_code = 5


class RegistryError(EdgeadError):
    """A registry of bundles cannot be reached, does not have what was asked for, or wants a login."""

    exit_code = 5


class EngineError(EdgeadError):
    """A built engine could not be loaded or failed while running."""

    exit_code = 5


class CameraError(EdgeadError):
    """Base of camera faults."""

    exit_code = 6


class CameraTimeout(CameraError):
    """No frame arrived in time; the camera may still deliver the next one."""


class CameraLost(CameraError):
    """The camera is gone (unplugged, process dead, stream ended by a fault); reopening may help."""


class UnreadableFrame(CameraError):
    """One picture came but cannot be used (damaged file, unsupported depth); the next one may be fine."""


class FrameDoubtful(CameraError):
    """Pictures come, but perhaps they are old: of the part before, or held up on their way; the next ones may be fine."""


class EndOfStream(CameraError):
    """A finite source (folder, video file) has delivered its last frame."""


class OutputError(EdgeadError):
    """An output device refused or did not answer."""

    exit_code = 6


class LinkError(OutputError):
    """An exchange with a PLC failed. `cause` is one word for counters: "connect", "timeout", "refused", "silent", "closed",
    "login", "certificate", "adapter"."""

    def __init__(self, message: str, *, cause: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.cause = cause


class StorageError(EdgeadError):
    """Reading or writing files failed: full disk, no permission."""

    exit_code = 7


class BudgetMissed(EdgeadError):
    """No engine answers within the time and the loss of accuracy that the user allows."""

    exit_code = 8

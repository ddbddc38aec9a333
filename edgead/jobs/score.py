"""A bundle that is ready to judge pictures. Needs neither torch nor onnx."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from edgead.budget import LatencyBudget
from edgead.bundle import Bundle, EngineRecord
from edgead.clock import MonotonicClock
from edgead.decision import Rule
from edgead.engines import open_engine
from edgead.errors import BadInput
from edgead.jobs.pages import drawn, embedded, html_facts, small_jpeg
from edgead.preprocess import PreprocessRecipe, decoded, read_image, to_bgr8
from edgead.runtime.loop.inspector import Inspector, one_line
from edgead.runtime.records.basis import HINGES, Judged
from edgead.signing import read_trusted
from edgead.types import Engine, Frame, Image, Inspection


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement(Inspection):
    """An inspection that notebooks show with its picture.

    Attributes:
        recipe: says which part of the picture the map is of.
    """

    recipe: PreprocessRecipe | None = None

    def _repr_html_(self) -> str:
        """For notebooks: the picture with the map, small, and what was decided."""
        facts = {"verdict": self.verdict.value, "cause": self.cause, "score": self.score, "threshold": self.threshold}
        facts |= {"engine": self.engine, "picture": self.frame.source if self.frame is not None else ""}
        told = html_facts({name: value for name, value in facts.items() if value != ""})
        return told if self.frame is None else embedded(small_jpeg(drawn(self, self.recipe))) + told


class Judge:
    """A bundle's engine, recipe and rule: from a camera's picture to a verdict, with score and map.

        with edgead.open("part.edgead") as judge:
            found = judge("picture.png")          # or an array, H x W x 3 uint8 BGR
            print(found.verdict, found.score, found.cause)

    Every picture gets a verdict: what cannot be used, by the recipe or by the engine, is UNKNOWN with its cause, never OK. Used
    by one thread at a time; the caller closes it.

    Attributes:
        bundle: opened.
        record: of the engine, as the manifest has it.
        engine: that answers.
        rule: that decides.
    """

    def __init__(self, bundle: Bundle, record: EngineRecord, engine: Engine, rule: Rule | None = None) -> None:
        self.bundle, self.record, self.engine = bundle, record, engine
        self.rule = rule or record.threshold.rule
        self._clock, self._judged = MonotonicClock(), 0
        self._basis = Judged(self.rule, record.name)
        self._inspector = Inspector(engine, bundle.manifest.preprocess, self.rule, LatencyBudget(None), self._clock)

    @classmethod
    def open(
        cls, path: Path, engine: str | None = None, *, threads: int | None = None, trusted: Sequence[Path] = (), sha256: str = ""
    ) -> Judge:
        """Open a bundle and one of its engines; nothing is asked of it yet.

        Args:
            engine: its name in the bundle; None: the bundle's default.
            threads: CPU threads of one inference; None: the engine's choice.
            trusted: files of public keys, one of which must have signed it; empty: no signature is asked for.
            sha256: that the bundle must have; "": any.

        Raises:
            BadInput: no engine of that name.
            BundleError, BundleMismatch: no bundle, damaged, or not for this device.
            MissingExtra, EngineError: the engine does not open here.
        """
        bundle = Bundle.open(path, sha256 or None, read_trusted(trusted))
        record = bundle.manifest.engine(engine)
        opened = open_engine(bundle, record.name, threads)
        try:
            return cls(bundle, record, opened)
        except BaseException:
            opened.close()
            raise

    def __call__(self, picture: Image | Path | str | bytes) -> Inspection:
        """The verdict on one picture, as the camera gave it: H x W x 3 uint8 BGR (grey, BGRA and 16 bits as
        :func:`edgead.preprocess.to_bgr8` takes them), a file, or a file's bytes."""
        source = str(picture) if isinstance(picture, Path | str) else ""
        return self.ask(lambda: self._image(picture), source)[0]

    def ask(self, read: Callable[[], Image], source: str = "") -> tuple[Inspection, Image | None]:
        """The verdict on a picture that is read first, and the picture; one that cannot be read (BadInput) is UNKNOWN.

        Args:
            read: gives it, H x W x 3 uint8 BGR.
            source: where it comes from.
        """
        self._judged += 1
        try:
            picture = read()
        except (BadInput, MemoryError) as error:
            return self._unknown(f"bad_frame: {one_line(error)}"), None
        frame = Frame(picture, self.record.name, self._judged, self._clock.now_ns(), source=source)
        return self._named(self._inspector.inspect(self._judged, frame)), picture

    def reading(self, found: Inspection) -> tuple[float, float] | None:
        """Level and statistic of what it said (:mod:`edgead.runtime.records.basis`); None where another threshold would say the
        same: it was not answered."""
        return self._basis.reading(found.score, found.anomaly_map) if found.cause in HINGES else None

    def unknown(self, cause: str) -> Inspection:
        """The verdict on a picture that is not looked at."""
        self._judged += 1
        return self._unknown(cause)

    def _unknown(self, cause: str) -> Inspection:
        return self._named(self._inspector.unknown(self._judged, cause))

    def _image(self, picture: Image | Path | str | bytes) -> Image:
        bits = self.bundle.manifest.preprocess.bits
        if isinstance(picture, Path | str):
            return read_image(Path(picture), bits)
        if isinstance(picture, bytes):
            return to_bgr8(decoded(np.frombuffer(picture, np.uint8), "what came"), bits)
        return to_bgr8(picture, bits) if isinstance(picture, np.ndarray) else picture  # what is no picture, the recipe tells

    def _named(self, found: Inspection) -> Inspection:
        said = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
        return Judgement(**{**said, "engine": self.record.name}, recipe=self.bundle.manifest.preprocess)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

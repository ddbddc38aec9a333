"""What a family of models is: its entry in the table, and what its fit is given.

Nothing here imports torch or NumPy: an entry is text, and what it names is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgead.errors import BadInput, MissingExtra
from edgead.models.learning.curve import Curve
from edgead.models.learning.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.families.options import Options
    from edgead.families.sizes import SizeRule
    from edgead.models.detector import Detector
    from edgead.models.learning.steps import Checkpoint
    from edgead.models.rewrites import Rewrite
    from edgead.types import Image


class Stopped(BadInput):
    """A training was asked to stop before its end."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Defect:
    """A picture of a defect.

    Attributes:
        image: at model size, H x W x 3 uint8 BGR.
        mask: H x W, True on the defect, at least somewhere; None: nobody knows where it is.
    """

    image: Image
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class FitData:
    """What a family is fitted on, and how it tells and is told.

    Attributes:
        images: good pictures at model size, H x W x 3 uint8 BGR.
        size: (height, width) of the model's input, px.
        seed: of everything that is random: the same one gives the same model.
        device: torch device that trains; the result is on the CPU.
        progress, stop: told, and asked, by :meth:`report`.
        defects: for families that take them; good for training only, never for choosing a threshold or for judging.
        checkpoint: what a long training goes on from (:func:`edgead.models.learning.steps.run`); None keeps nothing.
        curves: how the losses of its trainings in steps went is added to them; None: nobody asks.
    """

    images: Sequence[Image]
    size: tuple[int, int]
    seed: int = 0
    device: str = "cpu"
    progress: Progress = silent
    stop: Callable[[], bool] = _never
    defects: Sequence[Defect] = ()
    checkpoint: Checkpoint | None = None
    curves: list[Curve] | None = None

    def report(self, stage: str, done: float) -> None:
        """Tell the share of a stage that is done. To be called at every step: a training ends early here and nowhere else.

        Raises:
            Stopped: it is to end.
        """
        if self.stop():
            raise Stopped(f"the training was stopped ({stage}, {done:.0%})", hint="train again; nothing was written")
        self.progress(stage, done)

    def curve(self, stage: str, count: int) -> Curve:
        """One to fill, of a training of so many steps; for those without :func:`edgead.models.learning.steps.run`."""
        curve = Curve.over(stage, count)
        if self.curves is not None and count:
            self.curves.append(curve)
        return curve


Fit = Callable[[FitData], "Detector"]
"""A family's fit function with its options bound."""

LITE, PAPER = "lite", "paper"
"""How a method is trained: in minutes on two cores, or with the sizes and the schedule of its paper."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A published method: a family with these options.

    Attributes:
        name: how it is asked for; the family's own name is what the family alone means.
        title: for people.
        summary: one line.
        source: the paper that it follows.
        options: over the family's defaults.
        paper: over `options`: sizes and schedule of the paper, or of the authors' code where docs/methods.md says so.
        gave_up: what it gives up without them, in one line.
        side: width and height of its input in px, where nobody chooses them.
        paper_side: the same with `paper`; 0: as without.
        auto_s: CPU seconds that it is trained in, lite, on some 80 pictures, of those that `edgead train auto` tries; 0: it is
            left to whoever asks for it by name.
        made_up: it learns from defects that are drawn onto good pictures; how well it finds drawn ones says little then.
    """

    name: str
    title: str
    summary: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)
    gave_up: str = ""
    side: int = 256
    paper_side: int = 0
    auto_s: int = 0
    made_up: bool = False

    def values(self, how: str) -> dict[str, Any]:
        """Options of it, trained as `LITE` or as `PAPER`. Raises BadInput: there is no other way."""
        if how == LITE:
            return dict(self.options)
        if how != PAPER:
            raise BadInput(f"{how!r} is no preset", hint=f"one of {LITE}, {PAPER}")
        if not self.paper:
            raise BadInput(f"{self.title} has no preset {PAPER}: it has one way of training", hint="leave the preset out")
        return {**self.options, **self.paper}

    def px(self, how: str) -> int:
        """Side of its input where nobody chooses it."""
        return (self.paper_side if how == PAPER else 0) or self.side


@dataclass(frozen=True, slots=True)
class Family:
    """A family's entry. What it names is text, ``"module:name"``, or "" where there is none.

    Attributes:
        name: how it is asked for, and what model.json and bundles call it.
        title: for people.
        summary: one line.
        source: the paper that it follows.
        network: its :class:`edgead.models.detector.Detector`.
        options: its :class:`edgead.families.options.Options`.
        fit: function (:class:`FitData`, options) -> detector; "": models of it are imported, not trained.
        rewrites: module with `REWRITES`, those of this family alone.
        rewritten: the general rewrites are for it too; False: its graph is written as it came.
        tried: rewrites that a search tries, the least lossy first.
        sizes: its :class:`edgead.families.sizes.SizeRule`; "": the input size is not chosen for it.
        fold: function (detector, options) -> what trains the model of a fold (:data:`Fit`), and the share of a training's time
            that it takes; "": the whole training.
        shorter: options of which the trainings of folds take no more than this.
        takes_defects: pictures of defects take part in its training where they are given.
        needs_defects: it cannot be trained without them.
        presets: the methods that it is trained as; without one of its own name it is trained with its own defaults.
        resumes: a training can go on from a checkpoint.
        auto_s: see :class:`Preset`, of the method of its own name where that is none of `presets`.
        package: the package that brings it; "" for ours.
    """

    name: str
    title: str
    summary: str
    source: str
    network: str
    options: str = ""
    fit: str = ""
    rewrites: str = ""
    rewritten: bool = True
    tried: tuple[str, ...] = ("feature_map",)
    sizes: str = ""
    fold: str = ""
    shorter: Mapping[str, int] = field(default_factory=dict)
    takes_defects: bool = False
    needs_defects: bool = False
    presets: tuple[Preset, ...] = ()
    resumes: bool = False
    auto_s: int = 0
    package: str = ""

    def preset(self, name: str) -> Preset:
        """One of its methods; its own name always is one."""
        own = Preset(self.name, self.title, self.summary, self.source, auto_s=self.auto_s)
        return {self.name: own, **{preset.name: preset for preset in self.presets}}[name]

    def detector(self) -> type[Detector]:
        """The class that a model of it is loaded as (errors as :meth:`load`)."""
        found: type[Detector] = self.load(self.network)
        return found

    def options_type(self) -> type[Options]:
        """Errors as :meth:`load`, and BadInput: it is not trained."""
        if not self.fit:
            raise BadInput(f"{self.title} is not trained by edgead", hint="a model of another tool: edgead import FILE -o DIR")
        found: type[Options] = self.load(self.options)
        return found

    def bound(self, values: Mapping[str, Any]) -> Fit:
        """Its fit function with these values of its options (errors as :meth:`options_type`, and BadInput: unusable ones)."""
        options = self.options_type().of(self.name, values)
        fit = self.load(self.fit)
        return lambda data: fit(data, options)

    def fold_fit(self, values: Mapping[str, Any], detector: Detector) -> tuple[Fit, float]:
        """What trains the model of a fold (:mod:`edgead.training.crossfit`), and about which share of the time of `detector`'s
        training it takes (errors as :meth:`bound`)."""
        options = self.options_type().of(self.name, values)
        if self.fold and detector.family == self.name and isinstance(detector, self.detector()):
            found: tuple[Fit, float] = self.load(self.fold)(detector, options)
            return found
        shorter = {name: most for name, most in self.shorter.items() if getattr(options, name) > most}
        return self.bound({**values, **shorter}), 0.5 if shorter else 1.0

    def size_rule(self, values: Mapping[str, Any]) -> SizeRule:
        """How the input size of one with these options, where it has `sizes`, is chosen (errors as :meth:`bound`)."""
        rule: SizeRule = self.load(self.sizes)(self.options_type().of(self.name, values), tuple(values))
        return rule

    def check_defects(self, given: bool) -> None:
        """Raises BadInput: pictures of defects are given and it learns from good ones only, or they are missing."""
        if given and not (self.takes_defects or self.needs_defects):
            raise BadInput(
                f"{self.title} learns from good pictures only: --defects does not apply",
                hint="leave it away; with test/good and test/DEFECT beside the good pictures the model is measured on them",
            )
        if self.needs_defects and not given:
            raise BadInput(f"{self.title} needs pictures of defects too", hint="give --defects DIR, or take another model")

    def own_rewrites(self) -> tuple[Rewrite, ...]:
        """Those of this family alone (errors as :meth:`load`)."""
        found: tuple[Rewrite, ...] = self.load(f"{self.rewrites}:REWRITES") if self.rewrites else ()
        return found

    def load(self, what: str) -> Any:
        """What ``"module:name"`` stands for.

        Raises:
            MissingExtra: the package that brings the family cannot be imported.
        """
        module, _, name = what.partition(":")
        if not self.package:
            return getattr(importlib.import_module(module), name)
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:  # whatever another package does when it is imported
            raise MissingExtra(
                f"{what} of the family {self.name!r} cannot be loaded: {type(error).__name__}: {error}"[:300],
                hint=f"mend or install the package that brings it: {self.package}",
            ) from error


def on_cpu(data: FitData, title: str) -> None:
    """For families that train on the CPU only. Raises BadInput for another device."""
    if data.device != "cpu":
        raise BadInput(f"{title} trains on the CPU, not on {data.device}", hint="leave the device away")

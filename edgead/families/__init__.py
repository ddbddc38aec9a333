"""The families of models: one entry each, all text, so that this table costs nothing and needs no torch.

A family is a folder here and one entry; other packages bring theirs by an entry point of the group ``edgead.families`` (its name
the family's, its value a :class:`edgead.families.contract.Family`). docs/architecture.md: how to add one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from edgead.errors import BadInput, MissingExtra
from edgead.families.contract import Family, Preset
from edgead.families.differnet import presets as differnet
from edgead.families.distillation.presets import PRESETS as DISTILLATION
from edgead.families.draem.presets import PRESETS as DRAEM
from edgead.families.fastflow import presets as fastflow
from edgead.families.gaussian import presets as gaussian
from edgead.families.oneclass.presets import PRESETS as ONECLASS
from edgead.families.patchsvdd.presets import PRESETS as PATCHSVDD
from edgead.families.reconstruction import presets as reconstruction
from edgead.families.students.presets import PRESETS as STUDENTS
from edgead.families.translate import presets as translate

_ROOM = "edgead.families"

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            "patchcore",
            "PatchCore",
            "the distance of each patch to its nearest neighbour among those of good pictures; trained in seconds",
            "Roth et al. 2022, Towards Total Recall in Industrial Anomaly Detection, arXiv:2106.08265",
            f"{_ROOM}.patchcore.network:PatchCore",
            options=f"{_ROOM}.patchcore.options:PatchCoreOptions",
            fit=f"{_ROOM}.patchcore.fit:fit",
            sizes=f"{_ROOM}.patchcore.sizes:PatchCoreSizes",
            rewrites=f"{_ROOM}.patchcore.rewrites",
            tried=("feature_map", "bank", "dims", "rows"),
            auto_s=10,
        ),
        Family(
            "simplenet",
            "SimpleNet",
            "a small discriminator that tells good patches from noisy copies of them",
            "Liu et al. 2023, SimpleNet: A Simple Network for Image Anomaly Detection and Localization, arXiv:2303.15140",
            f"{_ROOM}.simplenet.network:SimpleNet",
            options=f"{_ROOM}.simplenet.options:SimpleNetOptions",
            fit=f"{_ROOM}.simplenet.fit:fit",
            sizes=f"{_ROOM}.simplenet.sizes:SimpleNetSizes",
            rewrites=f"{_ROOM}.simplenet.rewrites",
            shorter={"steps": 300},
            auto_s=20,
        ),
        Family(
            "efficientad",
            "EfficientAD",
            "a student that knows only good parts disagrees with its teacher on defects; also sees parts in a wrong place",
            "Batzner, Heckler, König 2024, EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies,"
            " arXiv:2303.14535",
            f"{_ROOM}.efficientad.network:EfficientAd",
            options=f"{_ROOM}.efficientad.options:EfficientAdOptions",
            fit=f"{_ROOM}.efficientad.fit:fit",
            sizes=f"{_ROOM}.efficientad.sizes:EfficientAdSizes",
            rewrites=f"{_ROOM}.efficientad.rewrites",
            tried=("feature_map", "rotate", "conv2"),
            fold=f"{_ROOM}.efficientad.fit:fold_fit",
            auto_s=150,
        ),
        Family(
            "gaussian",
            "Gaussian",
            "how far each place's features are from a Gaussian of good ones, of each place (PaDiM) or one for all; two seconds",
            "Defard et al. 2020, PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization,"
            " arXiv:2011.08785",
            f"{_ROOM}.gaussian.network:Gaussian",
            options=f"{_ROOM}.gaussian.options:GaussianOptions",
            fit=f"{_ROOM}.gaussian.fit:fit",
            sizes=f"{_ROOM}.gaussian.sizes:GaussianSizes",
            presets=gaussian.PRESETS,
        ),
        Family(
            "mmd",
            "MMD witness",
            "how dense good patches lie around each patch, by a kernel: for what is wrong a little everywhere",
            "after Gretton et al. 2012, A Kernel Two-Sample Test, JMLR 13; Šmídl, Bím, Pevný 2019, Anomaly scores for generative"
            " models, arXiv:1905.11890",
            f"{_ROOM}.mmd.network:MmdWitness",
            options=f"{_ROOM}.mmd.options:MmdOptions",
            fit=f"{_ROOM}.mmd.fit:fit",
            sizes=f"{_ROOM}.mmd.sizes:MmdSizes",
        ),
        Family(
            "differnet",
            "DifferNet",
            "how unlikely a whole picture is by a normalising flow of its pooled features",
            "Rudolph, Wandt, Rosenhahn 2021, Same Same But DifferNet: Semi-Supervised Defect Detection with Normalizing Flows,"
            " arXiv:2008.12577",
            f"{_ROOM}.differnet.network:DifferNet",
            options=f"{_ROOM}.differnet.options:DifferNetOptions",
            fit=f"{_ROOM}.differnet.fit:fit",
            sizes=f"{_ROOM}.differnet.sizes:DifferNetSizes",
            shorter={"steps": 100},
            presets=differnet.PRESETS,
            resumes=True,
        ),
        Family(
            "fastflow",
            "FastFlow",
            "how unlikely each place is by a normalising flow of convolutions over frozen features",
            "Yu et al. 2021, FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows,"
            " arXiv:2111.07677",
            f"{_ROOM}.fastflow.network:FastFlow",
            options=f"{_ROOM}.fastflow.options:FastFlowOptions",
            fit=f"{_ROOM}.fastflow.fit:fit",
            sizes=f"{_ROOM}.fastflow.sizes:FastFlowSizes",
            shorter={"steps": 100},
            presets=fastflow.PRESETS,
            resumes=True,
        ),
        Family(
            "reconstruction",
            "Reconstruction",
            "what a network that only knows good pictures cannot rebuild: network x masking x neck x error, mixed freely",
            "after Bergmann et al. 2018, Improving Unsupervised Defect Segmentation by Applying Structural Similarity to"
            " Autoencoders, arXiv:1807.02011",
            f"{_ROOM}.reconstruction.network:Reconstruction",
            options=f"{_ROOM}.reconstruction.options:ReconstructionOptions",
            fit=f"{_ROOM}.reconstruction.fit:fit",
            sizes=f"{_ROOM}.reconstruction.sizes:ReconstructionSizes",
            presets=reconstruction.PRESETS,
            resumes=True,
            tried=(),
        ),
        Family(
            "students",
            "Students",
            "students that know only good patches disagree with their teacher, and with each other, on defects",
            "Bergmann, Fauser, Sattlegger, Steger 2020, Uninformed Students, arXiv:1911.02357",
            f"{_ROOM}.students.network:Students",
            options=f"{_ROOM}.students.options:StudentsOptions",
            fit=f"{_ROOM}.students.fit:fit",
            sizes=f"{_ROOM}.students.sizes:StudentsSizes",
            shorter={"patches": 8000},
            presets=STUDENTS,
            resumes=True,
        ),
        Family(
            "distillation",
            "Distillation",
            "a student rebuilds the features of a pretrained network, from the picture or through a bottleneck",
            "Wang, Han, Ding, Huang 2021, Student-Teacher Feature Pyramid Matching for Anomaly Detection, arXiv:2103.04257",
            f"{_ROOM}.distillation.network:Distillation",
            options=f"{_ROOM}.distillation.options:DistillationOptions",
            fit=f"{_ROOM}.distillation.fit:fit",
            sizes=f"{_ROOM}.distillation.sizes:DistillationSizes",
            shorter={"steps": 60},
            presets=DISTILLATION,
            resumes=True,
        ),
        Family(
            "oneclass",
            "One class",
            "learned to tell good pictures from made up defects, and from a few real ones where there are such",
            "Liznerski et al. 2021, Explainable Deep One-Class Classification, arXiv:2007.01760",
            f"{_ROOM}.oneclass.network:OneClass",
            options=f"{_ROOM}.oneclass.options:OneClassOptions",
            fit=f"{_ROOM}.oneclass.fit:fit",
            sizes=f"{_ROOM}.oneclass.sizes:OneClassSizes",
            presets=ONECLASS,
            resumes=True,
            takes_defects=True,
            tried=(),
        ),
        Family(
            "patchsvdd",
            "Patch SVDD",
            "an encoder that learned on the good pictures alone where patches lie to each other; no weights of others; minutes",
            "Yi, Yoon 2020, Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation, arXiv:2006.16067",
            f"{_ROOM}.patchsvdd.network:PatchSvdd",
            options=f"{_ROOM}.patchsvdd.options:PatchSvddOptions",
            fit=f"{_ROOM}.patchsvdd.fit:fit",
            sizes=f"{_ROOM}.patchsvdd.sizes:PatchSvddSizes",
            shorter={"steps": 300},
            presets=PATCHSVDD,
            resumes=True,
            tried=(),
        ),
        Family(
            "draem",
            "DRAEM",
            "rebuilds the picture without what was drawn on it, and compares the two; also for models trained with anomalib",
            "Zavrtanik, Kristan, Skočaj 2021, DRAEM - A discriminatively trained reconstruction embedding for surface anomaly"
            " detection, arXiv:2108.07610",
            f"{_ROOM}.draem.network:Draem",
            options=f"{_ROOM}.draem.options:DraemOptions",
            fit=f"{_ROOM}.draem.fit:fit",
            sizes=f"{_ROOM}.draem.sizes:DraemSizes",
            shorter={"steps": 200},
            presets=DRAEM,
            resumes=True,
            tried=(),
        ),
        Family(
            "translate",
            "Translation",
            "makes a picture good and shows what changed; learns from good pictures and defects without masks",
            "Wolleb, Sandkühler, Cattin 2020, DeScarGAN: Disease-Specific Anomaly Detection with Weak Supervision,"
            " arXiv:2007.14118",
            f"{_ROOM}.translate.network:Translate",
            options=f"{_ROOM}.translate.options:TranslateOptions",
            fit=f"{_ROOM}.translate.fit:fit",
            sizes=f"{_ROOM}.translate.sizes:TranslateSizes",
            presets=translate.PRESETS,
            resumes=True,
            tried=(),
            needs_defects=True,
        ),
        Family(
            "supersimplenet",
            "SuperSimpleNet",
            "a segmentation and a classification head, for models trained with anomalib",
            "Rolih, Fučka, Skočaj 2024, SuperSimpleNet, arXiv:2408.03143",
            f"{_ROOM}.supersimplenet.network:SuperSimpleNet",
            tried=(),
        ),
        Family(
            "graph",
            "an ONNX graph",
            "the ONNX file of another tool, behind the graph contract",
            "",
            f"{_ROOM}.foreign.network:GraphDetector",
            rewritten=False,
            tried=(),
        ),
        Family(
            "openvino_ir",
            "an OpenVINO IR",
            "the OpenVINO IR of another tool, behind the graph contract",
            "",
            f"{_ROOM}.foreign.network:IrDetector",
            rewritten=False,
            tried=(),
        ),
    )
}


QUICK = "patchcore"
"""The family of the quick model that input sizes are judged by (:mod:`edgead.training.sizing`), whatever is trained."""


def names() -> list[str]:
    """All families, ours first; those of other packages are not imported for it."""
    from edgead.registry import points

    return [*FAMILIES, *(point.name for point in points("edgead.families") if point.name not in FAMILIES)]


def known(name: str) -> bool:
    """Whether there is a family of this name; ours cost no look at other packages."""
    return name in FAMILIES or name in names()


def unknown(name: str, package: str | None) -> str:
    """How to come by a family that a model or bundle names and nobody here knows; "" when it is known.

    Args:
        package: that brings it, where the file says so.
    """
    if known(name):
        return ""
    return f"pip install {package}" if package else "install the edgead or the package that made it"


def trained() -> list[str]:
    """Those that ``edgead train`` may be asked for. Whether one of another package can be trained shows when it is loaded."""
    return [name for name in names() if name not in FAMILIES or FAMILIES[name].fit]


def methods() -> list[str]:
    """What ``edgead train`` may be asked for by name: families, and published methods that are one with other options."""
    return list(dict.fromkeys(one for name in trained() for one in (name, *_presets(name))))


def plausible() -> list[str]:
    """Those of ours that ``edgead train auto`` tries, the one that is trained fastest first."""
    found = {name: method(name)[1].auto_s for family in FAMILIES for name in (family, *_presets(family)) if FAMILIES[family].fit}
    return sorted((name for name in found if found[name]), key=lambda name: found[name])


def method(name: str) -> tuple[Family, Preset]:
    """A family, told by the method's title, and which of its methods is meant.

    Raises:
        BadInput: nobody here knows it.
        MissingExtra: the package that brings it cannot be imported.
    """
    for family in trained():
        if name == family or name in _presets(family):
            return _meant(find(family), name)
    if name in FAMILIES:
        return _meant(FAMILIES[name], name)
    raise BadInput(f"unknown model {name!r}", hint=f"those that can be trained: {', '.join(methods())}")


def _meant(family: Family, name: str) -> tuple[Family, Preset]:
    preset = family.preset(name)
    return dataclasses.replace(family, title=preset.title), preset


def _presets(name: str) -> list[str]:
    """Of ours: another package's is not imported to know its names."""
    return [preset.name for preset in FAMILIES[name].presets] if name in FAMILIES else []


def find(name: str) -> Family:
    """A family by its name.

    Raises:
        BadInput: nobody here knows it.
        MissingExtra: the package that brings it cannot be imported.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    from edgead.registry import load_point, points

    for point in points("edgead.families"):
        if point.name == name:
            found = load_point("family", point)
            if not isinstance(found, Family) or found.name != name:
                raise MissingExtra(
                    f"family {name!r}: {point.value} is no edgead.families.contract.Family of this name",
                    hint="mend the package that registers it",
                )
            brings = found.package or (point.dist.name if point.dist is not None else point.module)
            return dataclasses.replace(found, package=brings)
    raise BadInput(f"unknown model family {name!r}", hint=f"those that can be trained: {', '.join(trained())}")

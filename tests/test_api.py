"""`import edgead`: five names, cheap until they are used, that do what the verbs do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgead
from edgead.errors import BadInput, ParityFailed
from edgead.types import Verdict
from tests.bundles import Tiny, part, write_parts
from tests.cli.test_run import write_bundle

ROOT = Path(__file__).resolve().parents[1]


def test_the_import_loads_nothing_and_names_all() -> None:
    code = (
        "import sys, edgead; print({'Station', 'export', 'open', 'train', 'verify'} <= set(dir(edgead)));"
        "print([m for m in ('numpy', 'cv2', 'torch', 'yaml', 'click', 'edgead.api') if m in sys.modules]);"
        "edgead.open; edgead.verify; edgead.Station; edgead.export; edgead.train;"
        "print([m for m in ('torch', 'onnx', 'sklearn', 'click', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["True", "[]", "[]"]


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        edgead.trian  # type: ignore[attr-defined]  # noqa: B018


def test_export_is_a_call_also_after_its_room_was_imported() -> None:
    import edgead.export.options

    with pytest.raises(BadInput, match="holds no trained model"):
        edgead.export("nowhere")


def test_the_page_of_docs_is_what_works(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", range(12), 128)
    cv2.imwrite(str(tmp_path / "picture.png"), part(99, 128))
    shutil.copytree(tmp_path / "good", tmp_path / "line")
    station = "name: cell\ncameras:\n  - {name: top, address: line, bundle: part.edgead}\n"
    (tmp_path / "station.yaml").write_text(station)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text("utf-8"), re.DOTALL)
    block += "\nprint(made._repr_html_(), exported._repr_html_(), found._repr_html_())\n"  # as a notebook shows them
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Verdict.OK" in done.stdout or "Verdict.NG" in done.stdout
    shown = re.sub(r"base64,[^\"]*", "", done.stdout)
    assert all(word in shown for word in ("<th>method</th><td>patchcore</td>", "<th>labels flipped</th>", "<img alt"))
    assert len(shown) < 10_000
    assert len(re.findall(r"^[123] Verdict", done.stdout, re.MULTILINE)) == 3


def test_the_readmes_example_imports_edgead_alone() -> None:
    (block,) = re.findall(r"<!-- ci: run -->\n```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert [line for line in block.splitlines() if "import" in line] == ["import edgead"]


def test_a_judge_gives_every_picture_a_verdict(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "tiny.edgead")
    (tmp_path / "torn.png").write_bytes(b"no picture")
    dark, bright = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 250, np.uint8)
    cv2.imwrite(str(tmp_path / "bright.png"), bright)
    with edgead.open(bundle, threads=1) as judge:
        found = [judge(dark), judge(bright), judge(tmp_path / "bright.png"), judge(str(tmp_path / "torn.png"))]
        found += [judge(np.zeros((16, 16), np.float32)), judge(tmp_path / "none.png")]  # type: ignore[arg-type]
    assert [one.verdict for one in found] == [Verdict.OK, Verdict.NG, Verdict.NG, *[Verdict.UNKNOWN] * 3]
    assert [one.part_id for one in found] == [1, 2, 3, 4, 5, 6]
    assert all(one.cause.startswith("bad_frame: ") for one in found[3:])
    assert (found[1].score, found[1].threshold, found[1].engine) == (250.0, 200.0, "onnxruntime-fp32")
    assert found[1].anomaly_map is not None and found[1].anomaly_map.shape == (16, 16)


def test_a_bundle_that_answers_otherwise_is_neither_opened_nor_verified(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "tiny.edgead", wrong_by=90.0)
    with pytest.raises(ParityFailed, match="does not answer as the trained model did"):
        edgead.open(bundle)
    with pytest.raises(ParityFailed, match="does not answer as the trained model did"):
        edgead.verify(bundle)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 7}, "patchcore has no option steps"),
        ({"size": "big"}, "'big' is not a size"),
        ({"size": 64, "budget_ms": 30.0}, "--budget-ms chooses the input size"),
        ({"coarse": 2}, "there are none"),
        ({"threads": 1}, "has no option threads"),
    ],
)
def test_what_a_training_does_not_have_is_refused(options: dict[str, object], says: str, tmp_path: Path) -> None:
    write_parts(tmp_path / "good", range(4), 32)
    with pytest.raises(BadInput, match=says):
        edgead.train("patchcore", tmp_path / "good", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_what_an_export_does_not_have_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="an export has no option speed"):
        edgead.export(tiny.model(), tmp_path / "b.edgead", speed=3)

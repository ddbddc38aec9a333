"""`edgead factory`: many products in one run, which goes on where it stopped, and of which none stops the others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.disk import hold
from edgead.jobs.factory import run as factory_run
from edgead.jobs.factory.made import Made
from edgead.jobs.factory.manifest import Product, read_manifest
from edgead.jobs.factory.page import write_page
from edgead.jobs.factory.run import FactoryRequest, factory
from edgead.jobs.factory.step import Step, digest, run_step
from tests.bundles import write_parts
from tests.waiting import until

PATIENCE_S = 300.0
MANIFEST = """
defaults:
  method: gaussian
  options: {size: 64}
  backends: [onnxruntime]
  precisions: [fp32]
products:
  - name: bolt
    good: pictures/bolt
  - {name: gone, good: pictures/nowhere}
  - {name: odd, good: pictures/bolt, options: {coresett: 3}}
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plant")
    write_parts(root / "pictures/bolt", range(16), 64)
    (root / "products.yaml").write_text(MANIFEST)
    return root


@pytest.fixture(scope="module")
def run(plant: Path) -> dict[str, Any]:
    """What a run says that was killed when the first model was trained, and started again; and the model's date before."""
    command = [
        sys.executable,
        "-m",
        "edgead.cli.main",
        "factory",
        str(plant / "products.yaml"),
        "-o",
        str(plant / "out"),
        "--json",
    ]
    books = plant / "out/bolt/product.json"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        until(books.is_file, PATIENCE_S)
        killed.kill()
    trained = (plant / "out/bolt/model/model.json").stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    return {"code": done.returncode, "told": json.loads(done.stdout), "said": done.stderr, "trained": trained}


def test_a_run_goes_on_after_a_kill_and_none_stops_the_others(plant: Path, run: dict[str, Any]) -> None:
    bolt, gone, odd = run["told"]["products"]
    assert (run["code"], run["told"]["made"], run["told"]["failed"]) == (2, 1, 2)
    assert (plant / "out/bolt/model/model.json").stat().st_mtime_ns == run["trained"]
    assert (bolt["state"], bolt["engine"], bolt["pictures"], bolt["width"]) == ("made", "onnxruntime-fp32", 16, 64)
    assert bolt["sha256"] == Bundle.open(plant / "out/bolt/bolt.edgead").digest and bolt["drawn"] and bolt["auroc"] > 0.5
    assert (gone["state"], gone["step"], gone["code"]) == ("failed", "read", 2) and "is not a folder" in gone["why"]
    assert (odd["state"], odd["step"], odd["code"]) == ("failed", "train", 2) and "no option coresett" in odd["why"]
    assert "bolt: onnxruntime-fp32" in run["said"] and "gone: failed at read" in run["said"]


def test_what_nothing_changed_of_is_left_and_what_changed_is_made_again(
    plant: Path, run: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (only := plant / "only.yaml").write_text(MANIFEST[: MANIFEST.index("  - {name: gone")])
    asked: list[str] = []

    def at_once(steps: list[Step], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
        asked.extend(f"{step.product.name} {step.kind}" for step in steps)
        yield from ((i, {"failed": "not here"}) for i, _ in enumerate(steps))

    monkeypatch.setattr(factory_run, "at_once", at_once)
    assert main(["factory", str(only), "-o", str(plant / "out")]) == 0
    shown = capsys.readouterr()
    assert "0 made, 1 unchanged, 0 failed" in shown.out and "bolt: unchanged" in shown.err and asked == []
    (product,) = read_manifest(only)
    same = digest(product)
    assert digest(replace(product, seed=1)) != same
    extra = plant / "pictures/bolt/9999.png"
    extra.write_bytes((plant / "pictures/bolt/0000.png").read_bytes() + b"\0")
    try:
        assert digest(product) != same
        assert main(["factory", str(only), "-o", str(plant / "out")]) == 5
        assert asked == ["bolt train"]
    finally:
        extra.unlink()
    assert digest(product) == same
    assert main(["factory", str(only), "-o", str(plant / "out"), "--anew"]) == 5
    assert asked == ["bolt train"] * 2


def test_a_product_whose_bundle_was_damaged_is_made_again(
    plant: Path, run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (only := plant / "only.yaml").write_text(MANIFEST[: MANIFEST.index("  - {name: gone")])
    engine = next((plant / "out/bolt/bolt.edgead").rglob("*.onnx"))
    engine.write_bytes(engine.read_bytes()[:-1])
    assert main(["factory", str(only), "-o", str(plant / "out")]) == 0
    assert "1 made, 0 unchanged" in capsys.readouterr().out
    assert Bundle.open(plant / "out/bolt/bolt.edgead").digest


def test_the_page_has_every_product_failures_first_names_escaped_and_no_script(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    products = (
        Made(
            "bolt",
            "gaussian",
            "made",
            folder=tmp_path / "bolt",
            sha256="ab" * 32,
            engine="e",
            auroc=0.5,
            p99_ms=9.25,
            train_s=3.0,
        ),
        Made("nut", "gaussian", "failed", evil, "hint", "train", 4, tmp_path / "nut"),
    )
    page = write_page(tmp_path, tmp_path / "p.yaml", products).read_text("utf-8")
    assert page.index("&lt;script&gt;") < page.index("<table>") and "<script" not in page
    assert "2 products: 1 made, 1 failed." in page and ">9.2<" in page and 'href="bolt/"' in page


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("products: []", "products is not a list of 1 to 1000"),
        ("products:\n- {name: a}", "line 2: products[0].good is missing"),
        ("products:\n- name: a\n  good: g\n  bugdet_ms: 3", "line 4: products[0].bugdet_ms is an unknown key"),
        ("products:\n- name: a\n  good: g\n  budget_ms: 0", "line 4: products[0].budget_ms is 0"),
        ("products:\n- name: a/b\n  good: g", "which is to be a folder"),
        ("products:\n- {name: a, good: g, method: nosuch}", "there is no method 'nosuch'"),
        ("products:\n- {name: a, good: g, limits: {max_flop: 1}}", "there is no limit 'max_flop'"),
        ("products:\n- {name: a, good: g, options: {seed: 1}}", "seed is no option of a method"),
        ("products:\n- {name: a, good: g, frame: [64, 64]}", "frame is for a budget"),
        ("products:\n- {name: a, good: g}\n- {name: A, good: g}", "line 3: there are two products A"),
        ("products:\n- {name: a, good: g, options: {size: 2026-01-01}}", "options hold what no option is"),
        ("products:\n- {name: Index.html, good: g}", "which is the table of all"),
        ("products:\n- 7", "a product is no mapping"),
        ("defaults: {good: g}\nproducts:\n- {name: a}", "but name and good"),
        ("jobs: 3", "jobs is an unknown key"),
        ("products: [", "line "),
    ],
)
def test_a_mistake_in_the_manifest_is_one_line_that_names_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    (tmp_path / "p.yaml").write_text(text)
    assert main(["factory", str(tmp_path / "p.yaml"), "-o", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 2 and lines[0].startswith(f"edgead factory: {tmp_path / 'p.yaml'}") and told in lines[0], lines
    assert not (tmp_path / "out").exists()


def test_one_run_at_a_time_works_in_a_folder(plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import os

    handle = hold(tmp_path)
    assert handle is not None
    try:
        assert main(["factory", str(plant / "products.yaml"), "-o", str(tmp_path)]) == 2
        assert "another edgead factory works in" in capsys.readouterr().err
    finally:
        os.close(handle)
    assert main(["factory", str(plant / "products.yaml"), "-o", "/proc/out"]) == 7


def test_a_step_whose_process_dies_is_a_failure_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = run_step(Step("train", Product("a", str(tmp_path)), tmp_path, 1))
    assert answer["failed"] == "the process of this train died (SIGSEGV)" and "log.txt" in answer["hint"]


def test_engines_for_a_budget_are_searched_alone_and_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever trains, and how much of it at once."""
    for name in ("a", "b", "c"):
        write_parts(tmp_path / name, range(2), 16)
    (tmp_path / "p.yaml").write_text(
        "products:\n- {name: a, good: a, budget_ms: 5}\n- {name: b, good: b}\n- {name: c, good: c, budget_ms: 5}\n"
    )
    asked: list[tuple[str, list[str], int, str]] = []

    def answers(steps: list[Step], workers: int, cluster: str) -> Iterator[tuple[int, dict[str, Any]]]:
        asked.append((steps[0].kind, [step.product.name for step in steps], workers, cluster))
        yield from ((i, {"done": {"engine": "e", "auroc": 0.9, "train_s": 1.0}}) for i, _ in enumerate(steps))

    monkeypatch.setattr(factory_run, "at_once", lambda steps, workers: answers(steps, workers, ""))
    monkeypatch.setattr(factory_run, "on_cluster", lambda steps, cluster, workers: answers(steps, workers, cluster))
    found = factory(FactoryRequest(tmp_path / "p.yaml", tmp_path / "out", workers=3, cluster="ray"))
    assert asked == [
        ("train", ["a", "b", "c"], 3, "ray"),
        ("export", ["b"], 3, "ray"),
        ("export", ["a", "c"], 1, ""),
    ]
    assert (found.made, found.failed, [one.name for one in found.products]) == (3, 0, ["a", "b", "c"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SQLAlchemy's, of how MLflow asks it
def test_products_are_noted_in_mlflow(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'edgead[mlflow]' sqlalchemy")
    from edgead.jobs.factory.noted import Notes

    address = f"sqlite:///{tmp_path}/mlflow.db"
    notes = Notes(address, "nightly")
    notes.note(Made("bolt", "gaussian", "made", folder=tmp_path, sha256="ab" * 32, engine="e", auroc=0.97, train_s=3.0))
    notes.note(Made("nut", "gaussian", "failed", "no pictures", "hint", "train", 2, tmp_path))
    assert notes.failed == {}
    client = mlflow.MlflowClient(tracking_uri=address)
    found = {one.info.run_name: one for one in client.search_runs([client.get_experiment_by_name("nightly").experiment_id])}
    assert {name: one.info.status for name, one in found.items()} == {"bolt": "FINISHED", "nut": "FAILED"}
    assert found["bolt"].data.metrics["auroc"] == 0.97 and found["bolt"].data.tags["edgead.bundle"] == "ab" * 32
    assert found["nut"].data.tags["edgead.failed"] == "train: no pictures"


def test_without_mlflow_the_run_does_not_begin(plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    if importlib.util.find_spec("mlflow") is not None:
        pytest.skip("MLflow is installed")
    words = ["factory", str(plant / "products.yaml"), "-o", str(tmp_path / "out"), "--mlflow", "http://127.0.0.1:9"]
    assert main(words) == 5
    assert "edgead[mlflow]" in capsys.readouterr().err and not (tmp_path / "out").exists()

"""What `edgead serve-files` writes: a Triton repository that its Python backend runs, and what KServe needs.

Triton itself is run by hand (docs/serve.md has commands and figures); the one module of it that a model imports stands in here.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import edgead
from edgead.bundle import Bundle
from edgead.cli.main import main
from edgead.errors import BadInput, BundleError, BundleMismatch
from edgead.serving.files import KINDS, Request, write_files
from tests.cli.test_run import write_bundle

DARK, BRIGHT = np.zeros((16, 16, 3), np.uint8), np.full((20, 30, 3), 250, np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("files") / "part.edgead")


@dataclass
class Tensor:
    name: str
    values: Any

    def as_numpy(self) -> Any:
        return self.values


@dataclass
class Response:
    output_tensors: list[Tensor]
    error: Any = None


@dataclass
class Asked:
    """A request as Triton hands it over."""

    inputs: dict[str, Any]
    outputs: list[str] = field(default_factory=list)

    def requested_output_names(self) -> list[str]:
        return self.outputs


class TritonError(Exception):
    INVALID_ARG = 3


def loaded(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model of a repository, as Triton loads it."""
    utils = types.ModuleType("triton_python_backend_utils")
    utils.__dict__.update(
        InferenceResponse=Response, Tensor=Tensor, TritonError=lambda text, code: TritonError(text, code),
        get_input_tensor_by_name=lambda request, name: Tensor(name, request.inputs[name]) if name in request.inputs else None,
    )  # fmt: skip
    utils.TritonError.INVALID_ARG = TritonError.INVALID_ARG  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.syspath_prepend(str(folder / version))
    monkeypatch.delitem(sys.modules, "model", raising=False)
    model = importlib.import_module("model").TritonPythonModel()
    monkeypatch.delitem(sys.modules, "model")
    model.initialize({"model_repository": str(folder), "model_version": version})
    return model


def test_tritons_model_answers_as_open_does_and_a_broken_picture_is_unknown(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(Request(bundle, "triton", tmp_path, "part", threads=1))
    model = loaded(tmp_path / "part", "1", monkeypatch)
    try:
        pixels, files, wrong, both = model.execute(
            [
                Asked({"picture": np.stack([BRIGHT, BRIGHT // 2])}, ["verdict", "score", "map"]),
                Asked({"file": np.array([b"no picture"], object)}),
                Asked({"picture": BRIGHT.astype(np.float32)}),
                Asked({"picture": DARK, "file": np.array([b""], object)}),
            ]
        )
    finally:
        model.finalize()
    with edgead.open(bundle, threads=1) as judge:
        expected = [judge(BRIGHT), judge(BRIGHT // 2)]
    found = {one.name: one.values for one in pixels.output_tensors}
    assert found["verdict"].tolist() == [one.verdict.value.encode() for one in expected] == [b"NG", b"OK"]
    assert found["score"].tolist() == [one.score for one in expected]
    assert np.array_equal(found["map"], np.stack([one.anomaly_map for one in expected]))  # type: ignore[misc]
    unknown = {one.name: one.values for one in files.output_tensors}
    assert list(unknown) == ["verdict", "cause", "score", "threshold"] and unknown["verdict"].tolist() == [b"UNKNOWN"]
    assert "picture is of float32" in str(wrong.error) and "a request of 2 inputs" in str(both.error)
    assert wrong.output_tensors == both.output_tensors == []


def test_a_bundle_that_was_changed_in_the_repository_is_not_run(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(Request(bundle, "triton", tmp_path, "part"))
    manifest = tmp_path / "part/1/part.edgead/manifest.json"
    manifest.write_text(manifest.read_text().replace("200.0", "255.0"))
    with pytest.raises(BundleMismatch, match="is not the bundle that is wanted"):
        loaded(tmp_path / "part", "1", monkeypatch)


def test_a_triton_configuration_names_what_goes_in_and_comes_out(bundle: Path, tmp_path: Path) -> None:
    write_files(Request(bundle, "triton", tmp_path, "cap"))
    text = (tmp_path / "cap/config.pbtxt").read_text()
    for line in ('name: "cap"', 'backend: "python"', 'name: "picture" data_type: TYPE_UINT8 dims: [-1, -1, -1, 3] optional: true',
                 'name: "score" data_type: TYPE_FP64', 'name: "map" data_type: TYPE_FP32 dims: [-1, 16, 16]'):  # fmt: skip
        assert line in text
    card = json.loads((tmp_path / "cap/1/bundle.json").read_text())
    assert (card["sha256"], card["engine"]) == (Bundle.open(bundle).digest, "onnxruntime-fp32")


def test_a_version_is_added_beside_the_others_and_none_is_touched(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve-files", str(bundle), "--for", "triton", "-o", str(tmp_path), "--name", "cap"]
    assert main(words) == 0 and main([*words, "--version", "2"]) == 0
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    capsys.readouterr()
    assert main(words) == 2
    assert "cap/1 is there already" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert sorted(one.name for one in (tmp_path / "cap").iterdir()) == ["1", "2", "config.pbtxt"]


def test_kserve_gets_a_service_a_runtime_and_an_image(bundle: Path, tmp_path: Path) -> None:
    write_files(Request(bundle, "kserve", tmp_path, "Left_cap", 3))
    service = yaml.safe_load((tmp_path / "Left_cap/inference-service.yaml").read_text())
    runtime = yaml.safe_load((tmp_path / "Left_cap/serving-runtime.yaml").read_text())
    assert service["kind"] == "InferenceService" and service["metadata"]["name"] == "left-cap"
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]
    (container,) = runtime["spec"]["containers"]
    assert container["args"][:2] == ["serve", "Left_cap:3=/mnt/models/3/Left_cap.edgead"]
    assert Bundle.open(tmp_path / "Left_cap/3/Left_cap.edgead").digest == Bundle.open(bundle).digest
    assert f"edgead[onnxruntime,serve]=={edgead.__version__}" in (tmp_path / "Left_cap/Containerfile").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "torchserve"}, "there is no kind of server 'torchserve'"),
        ({"name": "../x"}, "cannot be the name of a model"),
        ({"name": ""}, "cannot be the name of a model"),
        ({"name": 'a"b'}, "cannot be the name of a model"),
        ({"engine": "openvino-int8"}, "openvino-int8"),
    ],
)
def test_what_cannot_be_written_is_told_and_nothing_is(bundle: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    asked: dict[str, Any] = {"bundle": bundle, "kind": "triton", "folder": tmp_path / "repo", "name": "part", **changes}
    with pytest.raises(BadInput, match=says) as told:
        write_files(Request(**asked))
    assert told.value.hint and not (tmp_path / "repo").exists()


def test_what_is_no_bundle_or_no_folder_is_told(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError):
        write_files(Request(tmp_path, "triton", tmp_path / "repo", "part"))
    (tmp_path / "file").write_text("")
    assert main(["serve-files", str(bundle), "--for", "triton", "-o", str(tmp_path / "file")]) == 7
    (tmp_path / "repo/part").mkdir(parents=True)
    (tmp_path / "repo/part/config.pbtxt").write_bytes(b"\xff no UTF-8")
    assert main(["serve-files", str(bundle), "--for", "triton", "-o", str(tmp_path / "repo"), "--name", "part"]) == 2
    assert "is there with another content" in capsys.readouterr().err
    assert set(KINDS) == {"triton", "kserve", "openvino"}

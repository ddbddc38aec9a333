"""Opening an engine of a bundle: what does not suit this device is refused by name, and nothing falls back silently."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from edgead import machine
from edgead.bundle import Bundle, EngineRecord
from edgead.engines import open_engine
from edgead.errors import BadInput, BundleMismatch, EngineError, MissingExtra
from tests.bundles import Tiny


@pytest.fixture(scope="module")
def bundle(tiny: Tiny) -> Bundle:
    return Bundle.open(tiny.bundle())


def changed(bundle: Bundle, name: str, **values: object) -> Bundle:
    """The bundle with other values in one engine's record, which becomes the default."""

    def change(record: EngineRecord) -> EngineRecord:
        return dataclasses.replace(record, **values) if record.name == name else record  # type: ignore[arg-type]

    engines = tuple(change(record) for record in bundle.manifest.engines)
    return Bundle(bundle.path, dataclasses.replace(bundle.manifest, engines=engines, default_engine=name))


def test_the_default_engine_is_opened(bundle: Bundle) -> None:
    engine = open_engine(bundle, threads=1)
    assert engine.inputs == bundle.manifest.inputs
    engine.close()


def test_8_bit_weights_are_refused_on_x86_without_vnni(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    eight = changed(bundle, "openvino-int8", built_with={"weight_bits": "8"})
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "cpu_flags", lambda: ["avx2"])
    with pytest.raises(BundleMismatch, match="no VNNI") as caught:
        open_engine(eight)
    assert "--weight-bits 7" in caught.value.hint
    open_engine(bundle, "openvino-int8", threads=1).close()
    for arch, flags in (("x86_64", ["avx2", "avx512_vnni"]), ("aarch64", [])):
        monkeypatch.setattr(platform, "machine", lambda arch=arch: arch)
        monkeypatch.setattr(machine, "cpu_flags", lambda flags=flags: flags)
        open_engine(eight, threads=1).close()


def test_a_file_of_another_version_names_both_versions(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"from the future")
    other = changed(bundle, "onnxruntime-fp32", built_with={"onnxruntime": "99.0"})
    with pytest.raises(BundleMismatch, match=r"built with onnxruntime 99\.0 and does not load with \d"):
        open_engine(Bundle(tmp_path, other.manifest))
    same = changed(bundle, "onnxruntime-fp32", built_with=machine.packages(["onnxruntime"]))
    with pytest.raises(EngineError, match="cannot load"):
        open_engine(Bundle(tmp_path, same.manifest))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_missing_package_names_the_extra(bundle: Bundle, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(MissingExtra, match=backend) as caught:
        open_engine(bundle, f"{backend}-fp32")
    assert f"edgead[{backend}]" in caught.value.hint


def test_a_backend_that_nobody_knows_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BadInput, match="unknown engine 'abacus'"):
        open_engine(changed(bundle, "openvino-fp32", backend="abacus"))


def test_a_graph_that_differs_from_the_manifest_is_refused(bundle: Bundle) -> None:
    manifest = dataclasses.replace(bundle.manifest, outputs=bundle.manifest.outputs[:1])
    with pytest.raises(BundleMismatch, match="inputs and outputs"):
        open_engine(Bundle(bundle.path, manifest), threads=1)


SILENT = """
import sys, threading
from pathlib import Path
from edgead.bundle import Bundle
from edgead.engines import open_engine
open_engine(Bundle.open(Path(sys.argv[1])), "openvino-int8", threads=1).close()
print([t.name for t in threading.enumerate()], [m for m in sys.modules if "openvino_telemetry" in m])
"""


def test_openvino_reports_nothing_to_anybody(bundle: Bundle) -> None:
    done = subprocess.run([sys.executable, "-c", SILENT, str(bundle.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['MainThread'] []"

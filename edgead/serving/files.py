"""Files by which other model servers serve a bundle: `edgead serve-files`. The bundle lies in them, pinned by its digest."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgead import __version__, disk
from edgead.bundle import Bundle, EngineRecord, storage_errors
from edgead.decision import tells_no_map
from edgead.errors import BadInput
from edgead.serving.ir import server_config, write_ir_files
from edgead.serving.tensors import FILE, PICTURE, output_types
from edgead.serving.triton import CARD

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")

_TRITON_TYPES = {"BYTES": "TYPE_STRING", "FP64": "TYPE_FP64", "FP32": "TYPE_FP32"}

_MODEL_PY = '''"""Written by edgead serve-files. Triton's Python backend runs the bundle beside this file, by edgead itself."""

from edgead.serving.triton import TritonPythonModel  # noqa: F401 - Triton looks for it here
'''


@dataclass(frozen=True, slots=True)
class Request:
    """What shall be written.

    Attributes:
        bundle: folder written by edgead export.
        kind: of `KINDS`.
        folder: the model repository, made where it is absent.
        name: of the model.
        version: of it, from 1 on.
        engine: name in the bundle; None: its default.
        threads: CPU threads of one inference; None: the engine's choice.
        frame: width, height of the camera's pictures, for openvino only; None: those that the model was trained on.
    """

    bundle: Path
    kind: str
    folder: Path
    name: str
    version: int = 1
    engine: str | None = None
    threads: int | None = None
    frame: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ServeFiles:
    """What was written for a model server.

    Attributes:
        kind: of server.
        folder: the model repository.
        name: of the model.
        version: of it.
        sha256: of the bundle.
        engine: that answers.
        files: that were written, below the folder.
        notes: what to do with them, and what nobody has tried.
    """

    kind: str
    folder: Path
    name: str
    version: int
    sha256: str
    engine: str
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def write_files(request: Request) -> ServeFiles:
    """Write the files, all or none; a version that is there is not touched.

    Raises:
        BadInput: no such kind, an unusable name, the version is there already, or the bundle's recipe cannot be kept.
        BundleError: the bundle cannot be used.
        StorageError: the folder cannot be written.
    """
    if request.kind not in KINDS:
        raise BadInput(f"there is no kind of server {request.kind[:80]!r}", hint=f"one of {', '.join(KINDS)}")
    if not _NAME.fullmatch(request.name):
        raise BadInput(f"{request.name[:80]!r} cannot be the name of a model", hint="letters, digits, - and _: --name part")
    if request.kind != "openvino" and request.frame is not None:
        raise BadInput(f"--frame: for openvino only, and --for is {request.kind}", hint="others take pictures of any size")
    if request.kind == "openvino" and request.threads is not None:
        raise BadInput("--threads: not for openvino: the program that runs the graph chooses", hint="leave it out")
    bundle = Bundle.open(request.bundle)
    record = bundle.manifest.engine(request.engine)
    model = request.folder / request.name
    version = model / str(request.version)
    if version.exists():
        raise BadInput(
            f"{version} is there already", hint=f"another --version, e.g. {request.version + 1}; or remove it yourself"
        )
    top, notes = KINDS[request.kind].top(request, bundle, record), KINDS[request.kind].notes
    for name, text in top.items():
        if (file := request.folder / name).exists() and (file.is_dir() or file.read_bytes() != text.encode()):
            raise BadInput(f"{file} is there with another content", hint="another -o, or remove it yourself")
    with storage_errors(version), disk.work_folder(version) as work:
        KINDS[request.kind].fill(work, request, bundle, record)
        for name, text in top.items():
            disk.write_file(request.folder / name, text.encode())
        work.chmod(0o755)
        disk.exchange_folders(work, version)
    written = sorted(one for one in version.rglob("*") if one.is_file())
    return ServeFiles(request.kind, request.folder, request.name, request.version, bundle.digest, record.name,
                      (*(request.folder / name for name in top), *written), notes)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """How files for one server are made.

    Attributes:
        top: texts that lie in the repository, by their place in it.
        fill: writes the version's own folder.
        notes: for whoever uses them.
    """

    top: Callable[[Request, Bundle, EngineRecord], Mapping[str, str]]
    fill: Callable[[Path, Request, Bundle, EngineRecord], None]
    notes: tuple[str, ...]


def _with_bundle(work: Path, request: Request, bundle: Bundle, record: EngineRecord) -> None:
    """The bundle, copied and checked, and the card that pins it."""
    copy = work / f"{request.name}.edgead"
    shutil.copytree(bundle.path, copy)
    Bundle.open(copy, bundle.digest)
    card = {
        "bundle": copy.name,
        "sha256": bundle.digest,
        "engine": record.name,
        "threads": request.threads,
        "edgead": __version__,
    }
    (work / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")


def _triton(work: Path, request: Request, bundle: Bundle, record: EngineRecord) -> None:
    _with_bundle(work, request, bundle, record)
    (work / "model.py").write_text(_MODEL_PY, "utf-8")


def _triton_config(request: Request, bundle: Bundle, record: EngineRecord) -> dict[str, str]:
    height, width = next(one.shape for one in bundle.manifest.outputs if one.name == "anomaly_map")[-2:]
    inputs = ((PICTURE, "TYPE_UINT8", [-1, -1, -1, 3]), (FILE, "TYPE_STRING", [-1]))
    outputs = output_types(not tells_no_map((height, width)), (height, width))
    lines = [
        "# Written by edgead serve-files. One of the inputs is given; picture is N x H x W x 3 BGR as the camera gave it.",
        f'name: "{request.name}"',
        'backend: "python"',
        "max_batch_size: 0  # pictures have sizes of their own; several come in one request",
        *(f'input [ {{ name: "{name}" data_type: {kind} dims: {shape} optional: true }} ]' for name, kind, shape in inputs),
        *(
            f'output [ {{ name: "{one["name"]}" data_type: {_TRITON_TYPES[one["datatype"]]} dims: {one["shape"]} }} ]'
            for one in outputs
        ),
        "instance_group [ { count: 1 kind: KIND_CPU } ]",
        "version_policy: { all: { } }",
    ]
    return {f"{request.name}/config.pbtxt": "\n".join(lines) + "\n"}


def _kserve(request: Request, bundle: Bundle, record: EngineRecord) -> dict[str, str]:
    command = f"{request.name}:{request.version}=/mnt/models/{request.version}/{request.name}.edgead"
    threads = f', "--threads", "{request.threads}"' if request.threads else ""
    name = request.name.lower().replace("_", "-")
    backend = record.backend
    return {
        f"{request.name}/inference-service.yaml": f"""# Written by edgead serve-files. Put this folder where storageUri says.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    model:
      modelFormat: {{name: edgead}}
      runtime: edgead
      protocolVersion: v2
      storageUri: pvc://models/{request.name}  # or s3://, gs://, https://: yours
""",
        f"{request.name}/serving-runtime.yaml": f"""# Written by edgead serve-files. There is no authentication.
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata:
  name: edgead
spec:
  supportedModelFormats:
    - {{name: edgead, version: "1", autoSelect: true}}
  protocolVersions: [v2, grpc-v2]
  containers:
    - name: kserve-container
      image: edgead-serve:{__version__}
      args: ["serve", "{command}", "--http", "0.0.0.0:8080", "--grpc", "0.0.0.0:8081", "--engine", "{record.name}"{threads}]
      ports: [{{containerPort: 8080, protocol: TCP}}]
      readinessProbe: {{httpGet: {{path: /v2/models/{request.name}/ready, port: 8080}}}}
""",
        f"{request.name}/Containerfile": f"""# Written by edgead serve-files.
FROM docker.io/library/python:3.12-slim
RUN pip install --no-cache-dir 'edgead[{backend},serve]=={__version__}' && useradd --system edgead
USER edgead
ENTRYPOINT ["edgead"]
""",
    }  # fmt: skip


KINDS: Mapping[str, Kind] = {
    "triton": Kind(
        _triton_config,
        _triton,
        (
            "tritonserver --model-repository=DIR, with edgead and the engine's package in the Python of its Python backend",
            "run with Triton on a CPU: edgead docs serve has commands and parity; not run with Triton's own container image",
        ),
    ),
    "kserve": Kind(
        _kserve,
        _with_bundle,
        ("put NAME/ where storageUri says, build the image, kubectl apply both YAML files", "not run in a cluster"),
    ),
    "openvino": Kind(
        lambda request, bundle, record: {f"{request.name}/config.json": server_config(request.name)},
        lambda work, request, bundle, record: write_ir_files(work, bundle, record, request.frame, request.threads),
        (
            "pictures of this size only; compiled with INFERENCE_PRECISION_HINT f32 and more (edgead docs serve)",
            "run with OpenVINO Model API; not run with DL Streamer and OpenVINO Model Server",
        ),
    ),
}
"""By what --for says."""

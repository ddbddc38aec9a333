"""`edgead serve` as a process, asked by NVIDIA's client library over HTTP and gRPC.

The server library does not live beside our other pins (docs/decisions/0040-serve.md): .ci/run makes an environment for this file.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgead
from edgead.bundle import Bundle, rewrite_manifest
from tests.cli.test_run import write_bundle
from tests.waiting import PATIENCE_S, until

WHERE = "pip install '.[onnxruntime,serve]' 'tritonclient[http,grpc]' pytest hypothesis psutil, without constraints.txt"
if importlib.util.find_spec("kserve") is None:  # not imported: its messages have the names of the client's
    pytest.skip(f"in an environment of its own: {WHERE}", allow_module_level=True)
http_client: Any = pytest.importorskip("tritonclient.http", reason=WHERE)
grpc_client: Any = pytest.importorskip("tritonclient.grpc", reason=WHERE)

DARK, BRIGHT = np.zeros((16, 16, 3), np.uint8), np.full((20, 30, 3), 250, np.uint8)


class Process:
    """`edgead serve`, its addresses, and what it says."""

    def __init__(self, *arguments: object, http: str = "127.0.0.1:0", grpc: bool = True) -> None:
        also = ("--grpc", "127.0.0.1:0") if grpc else ()
        words = ("serve", *map(str, arguments), "--http", http, *also, "--threads", "1", "--json")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgead.cli.main", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        until(lambda: self.headline or self.process.poll() is not None, what="the server")
        assert self.headline, self.said
        self.http = self.headline.partition("HTTP on ")[2].split(";")[0].split(",")[0]
        self.grpc = self.headline.partition("gRPC on ")[2].split(";")[0]

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    @property
    def headline(self) -> str:
        return next((line for line in self.said if line.startswith("serving ")), "")

    def client(self, kind: Any) -> Any:
        return kind.InferenceServerClient(self.http if kind is http_client else self.grpc)

    def get(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        asked = urllib.request.Request(
            f"http://{self.http}{path}", body, {key.replace("_", "-"): v for key, v in headers.items()}
        )
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def end(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """Its result."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        assert self.process.wait(PATIENCE_S) == 0, self.said
        self.close()
        found: dict[str, Any] = json.loads(out)
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def served(*arguments: object, http: str = "127.0.0.1:0", grpc: bool = True) -> Iterator[Process]:
    process = Process(*arguments, http=http, grpc=grpc)
    try:
        yield process
    finally:
        process.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("served") / "part.edgead")


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Process]:
    with served(bundle, f"two:1={bundle}", f"two:2={bundle}") as process:
        yield process


@pytest.fixture(params=[http_client, grpc_client], ids=["http", "grpc"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(server: Process, kind: Any) -> Iterator[Any]:
    made = server.client(kind)
    yield made
    made.close()


def asked(kind: Any, client: Any, name: str, values: Any, model: str = "part", outputs: Any = (), **more: Any) -> Any:
    datatype = {"O": "BYTES", "u1": "UINT8", "u2": "UINT16", "f4": "FP32"}[values.dtype.str[1:].rstrip("8")]
    tensor = kind.InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values)
    wanted = [kind.InferRequestedOutput(one) for one in outputs] or None
    return client.infer(model, [tensor], outputs=wanted, **more)


def test_health_and_metadata(kind: Any, client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("part") and client.is_model_ready("two", "2") and not _ready(client, "two", "3")
    named: Any = {"as_json": True} if kind is grpc_client else {}
    assert client.get_server_metadata(**named)["name"] == "edgead"
    found = client.get_model_metadata("two", "1", **named)
    assert [one["name"] for one in found["inputs"]] == ["picture", "file"]
    assert [one["name"] for one in found["outputs"]] == ["verdict", "cause", "score", "threshold", "map"]


def _ready(client: Any, model: str, version: str) -> bool:
    try:
        return bool(client.is_model_ready(model, version))
    except Exception as error:  # noqa: BLE001 - the client's own
        assert "does not exist" in str(error)
        return False


def test_answers_are_those_of_open_bit_for_bit(kind: Any, client: Any, bundle: Path) -> None:
    """Several pictures a request, as pixels and as files; labels, scores, thresholds and maps."""
    pictures = np.random.default_rng(5).integers(0, 255, (3, 48, 64, 3), np.uint8)
    pictures[0] //= 2
    files = [cv2.imencode(end, pictures[0])[1].tobytes() for end in (".jpg", ".png", ".bmp")]
    outputs = ("verdict", "cause", "score", "threshold", "map")
    with edgead.open(bundle, threads=1) as judge:
        for name, sent, expected in (
            ("picture", pictures, [judge(one) for one in pictures]),
            ("picture", pictures[0], [judge(pictures[0])]),
            ("picture", pictures[1].astype(np.uint16) << 8, [judge(pictures[1])]),
            ("file", np.array(files, object), [judge(one) for one in files]),
        ):
            got = asked(kind, client, name, sent, outputs=outputs, request_id="7")
            assert got.as_numpy("verdict").tolist() == [one.verdict.value.encode() for one in expected]
            assert got.as_numpy("score").tolist() == [one.score for one in expected]
            assert got.as_numpy("threshold").tolist() == [one.threshold for one in expected]
            assert np.array_equal(got.as_numpy("map"), np.stack([one.anomaly_map for one in expected]))  # type: ignore[misc]


def test_a_broken_picture_is_unknown_with_its_cause_and_the_others_are_judged(kind: Any, client: Any) -> None:
    whole = cv2.imencode(".png", BRIGHT)[1].tobytes()
    got = asked(kind, client, "file", np.array([whole, b"no picture", whole[:90], b""], object))
    assert got.as_numpy("verdict").tolist() == [b"NG", b"UNKNOWN", b"UNKNOWN", b"UNKNOWN"]
    assert all(cause.startswith(b"bad_frame: ") for cause in got.as_numpy("cause")[1:])
    assert np.isnan(got.as_numpy("score")[1:]).all()
    assert asked(kind, client, "picture", np.zeros((1, 0, 4, 3), np.uint8)).as_numpy("verdict").tolist() == [b"UNKNOWN"]


def test_of_several_versions_the_last_one_answers_requests_without_one(kind: Any, client: Any) -> None:
    def version(**more: Any) -> str:
        found = asked(kind, client, "picture", DARK, "two", **more).get_response()
        return str(found["model_version"] if kind is http_client else found.model_version)

    assert [version(), version(model_version="1"), version(model_version="2")] == ["2", "1", "2"]


@pytest.mark.parametrize(
    ("model", "name", "values", "outputs", "says"),
    [
        ("none", "picture", DARK, (), "Model with name none does not exist"),
        ("part", "image", DARK, (), "there is no input 'image'"),
        ("part", "picture", DARK.astype(np.float32), (), "picture is of float32"),
        ("part", "picture", DARK[0, 0], (), "shape"),
        ("part", "picture", DARK, ("heat",), "there is no output 'heat'"),
    ],
)
def test_what_is_no_request_is_the_clients_fault(
    kind: Any, client: Any, model: str, name: str, values: Any, outputs: Any, says: str
) -> None:
    with pytest.raises(Exception, match=says) as told:
        asked(kind, client, name, values, model, outputs)
    assert any(word in str(told.value) for word in ("[400]", "[404]", "INVALID_ARGUMENT", "NOT_FOUND"))


def _request(**changes: Any) -> bytes:
    one = {"name": "picture", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3], **changes}
    return json.dumps({"inputs": [one]}).encode()


_RAW = json.dumps(
    {"inputs": [{"name": "file", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}]}
).encode()


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None), (b"{", None), (b"[]", None), (b"\xff\xfe", None), (b'{"inputs": 3}', None), (b'{"inputs": []}', None),
        (_request(shape=[1, 1, 1, 4]), None), (_request(shape=[-1, 3]), None), (_request(shape=[1 << 62, 1 << 62]), None),
        (_request(data=[1, 2, 300]), None), (_request(data=[1, 2, "x"]), None), (_request(data=[[1], [2, 3]]), None),
        (_request(datatype="WHAT"), None), (_request(datatype="BYTES"), None), (_request(name="file", datatype="BYTES"), None),
        (b'{"inputs":[1]}', "14"), (b'{"inputs":[1]}', "x"), (b'{"inputs":[1]}', "99"), (b'{"inputs":[1]}', "-1"),
        (b"[1]", "3"), (b"{}", "2"), (_RAW + b"\xff\0\0\0a", str(len(_RAW))), (_RAW + b"\1\0\0", str(len(_RAW))),
        (_RAW + b"\1\0\0\0ab", str(len(_RAW))), (_RAW.replace(b"5", b"-5") + b"\1\0\0\0a", str(len(_RAW) + 1)),
    ],
)  # fmt: skip
def test_a_malformed_body_is_answered_with_400_and_a_line(server: Process, body: bytes, length: str | None) -> None:
    for media in ("application/json", "application/octet-stream", "text/plain"):
        headers = {"Content_Type": media, **({"Inference_Header_Content_Length": length} if length else {})}
        code, text = server.get("/v2/models/part/infer", body, **headers)
        assert code == 400, (media, text)
        assert json.loads(text)["error"] and len(text) < 1500


def test_json_without_binary_tensors_works_and_no_score_is_null(server: Process) -> None:
    code, text = server.get("/v2/models/part/infer", _request(), Content_Type="application/json")
    found = {one["name"]: one["data"] for one in json.loads(text)["outputs"]}
    assert code == 200 and found["verdict"] == ["OK"] and found["score"] == [3.0]
    empty = _request(shape=[1, 0, 1, 3], data=[])
    code, text = server.get("/v2/models/part/infer", empty, Content_Type="application/json")
    assert code == 200 and {one["name"]: one["data"] for one in json.loads(text)["outputs"]}["score"] == [None]


def test_a_request_that_is_too_large_is_refused_before_it_is_read(server: Process) -> None:
    host, _, port = server.http.rpartition(":")
    for head in (f"Content-Length: {1 << 40}", "Content-Length: x"):
        with socket.create_connection((host, int(port)), PATIENCE_S) as line:
            line.sendall(f"POST /v2/models/part/infer HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n".encode())
            assert line.recv(100).split()[1] in (b"413", b"400")


def test_nobody_unloads_a_model_from_afar(server: Process) -> None:
    code, text = server.get("/v2/repository/models/part/unload", b"")
    assert code == 400 and "not unloaded over the network" in text
    assert server.get("/v2/models/part/ready")[0] == 200


def test_metrics_count_verdicts(server: Process) -> None:
    def count() -> float:
        code, text = server.get("/metrics")
        assert code == 200
        lines = [line for line in text.splitlines() if line.startswith('edgead_serve_verdicts_total{model="two",verdict="OK"')]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    before = count()
    server.get("/v2/models/two/infer", _request(), Content_Type="application/json")
    assert count() == before + 1


def test_a_bundle_is_exchanged_under_load_and_no_request_is_lost(tmp_path: Path, kind: Any) -> None:
    """While clients ask all the time: each gets an answer, first of the one bundle, then of the other, never of a damaged one."""
    path = write_bundle(tmp_path / "part.edgead")
    first, wrong = Bundle.open(path).digest, write_bundle(tmp_path / "wrong.edgead", wrong_by=90.0)
    with served(path) as server:
        ended, answers, faults = threading.Event(), [[], [], []], []  # type: ignore[var-annotated]

        def ask(found: list[str]) -> None:
            client = server.client(kind)
            try:
                while not ended.is_set():
                    response = asked(kind, client, "picture", np.stack([DARK, DARK])).get_response()
                    given = response["parameters"] if kind is http_client else response.parameters
                    digest = given["bundle_sha256"]
                    found.append(digest if kind is http_client else digest.string_param)
            except Exception as error:  # noqa: BLE001 - told below
                faults.append(error)
            finally:
                client.close()

        clients = [threading.Thread(target=ask, args=(found,)) for found in answers]
        for one in clients:
            one.start()
        try:
            until(lambda: all(answers), what="answers")
            path.rename(tmp_path / "former.edgead")
            wrong.rename(path)
            until(lambda: any("the former bundle goes on" in line and "golden" in line for line in server.said), what="a refusal")
            seen = [len(found) for found in answers]
            until(lambda: all(len(found) > n for found, n in zip(answers, seen, strict=True)), what="more answers")
            path.rename(tmp_path / "wrong.edgead")
            other = write_bundle(path)
            bundle = Bundle.open(other)
            second = rewrite_manifest(bundle, dataclasses.replace(bundle.manifest, name="other")).digest
            until(lambda: all(found[-1] == second for found in answers), what="answers of the other bundle")
        finally:
            ended.set()
            for one in clients:
                one.join()
        result = server.end()
    assert faults == []
    for found in answers:
        assert found == sorted(found, key=(first, second).index)  # nothing of a third one, and never back
    (model,) = result["models"]
    assert model["sha256"] == second and model["exchanged"] >= 1 and model["refused"] >= 1
    assert model["verdicts"] == {"OK": 2 * sum(map(len, answers))}


def test_the_end_answers_what_is_under_way_and_tells_what_was_done(bundle: Path) -> None:
    with served(bundle, grpc=False) as server:
        server.get("/v2/models/part/infer", _request(), Content_Type="application/json")
        result = server.end(signal.SIGINT)
    assert result["schema"] == "edgead.serve/1" and result["grpc"] is None
    assert result["models"][0]["verdicts"] == {"OK": 1}


def test_an_address_that_is_taken_or_reaches_out_is_told(bundle: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgead.cli.main", "serve", str(bundle), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in (("--http", f"127.0.0.1:{port}"), ("--http", "127.0.0.1:0", "--grpc", f"127.0.0.1:{port}")):
            done = run(*words)
            assert done.returncode == 6 and f"cannot listen on 127.0.0.1:{port}" in done.stderr
    with served(bundle, http="0.0.0.0:0", grpc=False) as server:
        assert any("0.0.0.0:0 is not this machine alone: no authentication" in line for line in server.said)

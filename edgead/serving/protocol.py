"""Between KServe's server library and our models. The only file, with `server.py`, that knows the library (kserve).

The library speaks the protocol: routes, messages, codecs, health, metadata. Done here is what its version 0.21 lacks: versions of
a model, HTTP's binary tensors (it makes a Python list of every pixel, and refuses bytes that are no UTF-8: a JPEG file), bounded
bodies, and one line in place of a trace where a client is wrong (docs/decisions/0040-serve.md).
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from edgead import __version__
from edgead.errors import BadInput
from edgead.optional import require
from edgead.serving.metrics import Metrics
from edgead.serving.served import Served
from edgead.serving.tensors import DATATYPES, INPUTS, answered, output_types, outputs_of, pictures_of
from edgead.words import one_line

_log = logging.getLogger("edgead.serve")

MOST_BYTES = 256 << 20
"""Of one request."""

_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, struct.error, MemoryError)
"""What the library raises on tensors that are not what they say."""

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Library:
    """The parts of the server library that are used.

    Raises:
        MissingExtra: pip install 'edgead[serve]'.
    """

    def __init__(self) -> None:
        why = "Serving models"
        arguments, sys.argv = sys.argv, sys.argv[:1]  # kserve reads the command line at its import
        try:
            require("kserve", extra="serve", why=why)
            parts = {
                name: require(f"kserve.{name}", extra="serve", why=why)
                for name in ("errors", "model", "protocol.dataplane", "protocol.infer_type", "protocol.rest.v2_endpoints",
                             "protocol.model_repository_extension", "protocol.grpc.servicer", "protocol.grpc.interceptors",
                             "protocol.grpc.grpc_predict_v2_pb2_grpc")
            }  # fmt: skip
        finally:
            sys.argv = arguments
        self.errors: Any = parts["errors"]
        self.types: Any = parts["protocol.infer_type"]
        self.plane: Any = parts["protocol.dataplane"]
        self.endpoints: Any = parts["protocol.rest.v2_endpoints"]
        self.repository: Any = parts["protocol.model_repository_extension"]
        self.servicer: Any = parts["protocol.grpc.servicer"]
        self.interceptors: Any = parts["protocol.grpc.interceptors"]
        self.stubs: Any = parts["protocol.grpc.grpc_predict_v2_pb2_grpc"]
        parts["model"].InferenceModel.register(Model)
        logging.getLogger("kserve").addFilter(_short)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _short(record: logging.LogRecord) -> bool:
    """What a client did wrong is a line at level info, without a trace."""
    wrong = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if type(wrong).__name__ in ("InvalidInput", "ModelNotFound"):
        _log.info("refused: %s", one_line(str(wrong)))
        return False
    return record.levelno >= logging.WARNING


class Model:
    """A served bundle as the library wants a model."""

    ready, engine = True, False

    def __init__(self, library: Library, served: Served, metrics: Metrics) -> None:
        self.name = served.wanted.name
        self.served = served
        self._library, self._metrics = library, metrics

    async def healthy(self) -> bool:
        return True  # it is registered once it is proved

    def get_input_types(self) -> list[dict[str, Any]]:
        return [dict(one) for one in INPUTS]

    def get_output_types(self) -> list[dict[str, Any]]:
        return output_types(self.served.has_map, self.served.map_size)

    async def __call__(self, body: Any, headers: Mapping[str, str] | None = None, verb: Any = None) -> tuple[Any, dict[str, str]]:
        """The answer to a request, by the library's types. Raises InvalidInput: it is not of the protocol's form."""
        invalid = self._library.errors.InvalidInput
        started = time.perf_counter()
        try:
            if len(body.inputs) != 1:
                raise BadInput(f"a request of {len(body.inputs)} inputs", hint="one: picture, or file")
            (given,) = body.inputs
            tensor = given.as_numpy()
            if tensor.shape != tuple(given.shape):  # a side of -1 is made up
                raise BadInput(f"shape {list(given.shape)} is not that of {tensor.size} values", hint="state every side")
            pictures = pictures_of(given.name, tensor)
            wanted = [one.name for one in body.request_outputs or ()]
            outputs = outputs_of(wanted or None, self.served.has_map)
        except BadInput as error:
            raise invalid(f"{error}: {error.hint}") from error
        except _MALFORMED as error:
            raise invalid(f"the tensors are not what they say: {one_line(str(error))}") from error
        answer = await asyncio.wrap_future(self.served.judge(pictures))
        self._metrics.answered(self.served, time.perf_counter() - started)
        kind = self._library.types
        made = []
        for name, values in answered(answer.found, outputs, answer.map_size).items():
            one = kind.InferOutput(name, list(values.shape), DATATYPES[name])
            one.set_data_from_numpy(values, binary_data=True)  # JSON is made of it where that is wanted
            one.parameters = None
            made.append(one)
        response = kind.InferResponse(
            body.id or "", self.name, made, model_version=self.served.wanted.version,
            use_binary_outputs=body.use_binary_outputs, requested_outputs=body.request_outputs,
            parameters={"bundle_sha256": answer.bundle, "engine": answer.engine},
        )  # fmt: skip
        return response, {}


class Repository:
    """The models by key; `load` looks for a changed bundle, and nobody unloads one from afar."""

    def __init__(self, library: Library, models: Sequence[Model], look: Callable[[Served], Awaitable[bool]]) -> None:
        self._library, self._look = library, look
        self._models = {model.served.wanted.key: model for model in models}
        self._versions: dict[str, list[str]] = {}
        for model in models:  # a request without a version gets the one that was named last
            self._versions.setdefault(model.name, []).append(model.served.wanted.version)
            self._models[model.name] = model

    def get_models(self) -> dict[str, Model]:
        return self._models

    def get_model(self, name: str) -> Model | None:
        return self._models.get(name)

    async def is_model_ready(self, name: str) -> bool:
        return name in self._models

    def versions(self, model: Model) -> list[str]:
        return [version for version in self._versions[model.name] if version]

    async def load(self, name: str) -> None:
        if (model := self._models.get(name)) is None:
            raise self._library.errors.ModelNotFound(name)
        await self._look(model.served)

    def unload(self, name: str) -> None:
        raise self._library.errors.InvalidInput("models are not unloaded over the network: end edgead serve")


def data_plane(library: Library, repository: Repository) -> Any:
    """The library's own, with what it lacks."""
    plane = library.plane.DataPlane(model_registry=repository)
    theirs_metadata, theirs_decode = plane.model_metadata, plane.decode_inference_request

    async def model_metadata(model_name: str) -> dict[str, Any]:
        found: dict[str, Any] = await theirs_metadata(model_name)
        model = repository.get_model(model_name)
        assert model is not None
        return {**found, "name": model.name, "platform": "edgead", "versions": repository.versions(model)}

    def decode(body: Any, headers: Mapping[str, str], model_name: str) -> Any:
        try:
            if isinstance(body, bytes) and "inference-header-content-length" in headers:
                return _binary(library.types, body, int(headers["inference-header-content-length"]), model_name)
            return theirs_decode(body, headers, model_name)
        except library.errors.InvalidInput:
            raise
        except _MALFORMED as error:
            said = one_line(f"{type(error).__name__}: {error}")
            raise library.errors.InvalidInput(f"the request cannot be read: {said}") from error

    plane.metadata = lambda: {"name": "edgead", "version": __version__, "extensions": ["model_repository", "binary_tensor_data"]}
    plane.model_metadata, plane.decode_inference_request = model_metadata, decode
    return plane


def _binary(types: Any, body: bytes, length: int, model_name: str) -> Any:
    """A request whose tensors follow its JSON: they stay the bytes that they are."""
    if not 0 < length <= len(body):
        raise ValueError(f"Inference-Header-Content-Length is {length}, the body has {len(body)} bytes")
    head = json.loads(body[:length])
    inputs, raw, at = [], [], length
    for one in head["inputs"]:
        parameters = one.get("parameters") or {}
        inputs.append(types.InferInput(one["name"], one["shape"], one["datatype"], data=one.get("data"), parameters=parameters))
        if "binary_data_size" in parameters:
            size = int(parameters["binary_data_size"])
            if not 0 <= size <= len(body) - at:
                raise ValueError(f"binary_data_size of {one['name']!r} is {size}, {len(body) - at} bytes are left")
            raw.append(body[at : at + size])
            at += size
    if raw and len(raw) != len(inputs):
        raise ValueError("of several inputs some are binary and some are not")
    if at != len(body):
        raise ValueError(f"{len(body) - at} bytes belong to no input")
    wanted = [types.RequestedOutput(one["name"], one.get("parameters")) for one in head.get("outputs") or ()]
    return types.InferRequest(
        model_name, inputs, request_id=head.get("id"), raw_inputs=raw or None, parameters=head.get("parameters"),
        request_outputs=wanted or None,
    )  # fmt: skip


class Servicer:
    """The library's gRPC service, with versions; asked for its methods by name."""

    def __init__(self, library: Library, plane: Any, extension: Any) -> None:
        self._theirs = library.servicer.InferenceServicer(plane, extension)
        self._invalid = library.errors.InvalidInput

    def __getattr__(self, name: str) -> Any:
        return getattr(self._theirs, name)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        request.name = _key(request.name, request.version)
        return await self._theirs.ModelReady(request, context)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        request.name = _key(request.name, request.version)
        return await self._theirs.ModelMetadata(request, context)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        request.model_name = _key(request.model_name, request.model_version)
        if any(one.HasField("contents") for one in request.inputs) and request.inputs[0].datatype == "FP16":
            raise self._invalid("FP16 goes as raw_input_contents only")
        return await self._theirs.ModelInfer(request, context)


def _key(name: str, version: str) -> str:
    return f"{name}:{version}" if version else name


class Door:
    """ASGI: the versions of a path become part of the model's name, and bodies are bounded."""

    def __init__(self, app: App, most_bytes: int = MOST_BYTES) -> None:
        self._app, self._most = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        parts = scope["path"].split("/")
        if parts[1:3] == ["v2", "models"] and len(parts) >= 6 and parts[4] == "versions":
            path = "/".join((*parts[:3], _key(parts[3], parts[5]), *parts[6:]))
            scope = {**scope, "path": path, "raw_path": path.encode()}
        headers = dict(scope["headers"])
        if b"inference-header-content-length" in headers:  # it is no JSON, whatever the client calls it
            scope = {**scope, "headers": [*{**headers, b"content-type": b"application/octet-stream"}.items()]}
        told = headers.get(b"content-length", b"0")
        if not told.isdigit() or int(told) > self._most:
            return await _refuse(send, 413, f"a request of {told.decode('latin1')[:20]} bytes; at most {self._most} are taken")
        seen = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise TooLarge
            return message

        try:
            return await self._app(scope, bounded, send)
        except TooLarge:  # before an answer has begun: the body is read first
            return await _refuse(send, 413, f"a request of more than {self._most} bytes")


class TooLarge(Exception):
    """A body without a stated length goes on and on."""


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""The process of `edgead serve`: HTTP by uvicorn, gRPC by grpcio, the protocol by kserve, the models ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput
from edgead.line.shelf import Shelf
from edgead.optional import require
from edgead.runtime.listening import refused, try_listening
from edgead.serving.metrics import Metrics
from edgead.serving.protocol import MOST_BYTES, Door, Library, Model, Repository, Servicer, data_plane
from edgead.serving.served import Served
from edgead.serving.wanted import Address, Named, check_names
from edgead.signing import TrustedKey
from edgead.words import one_line

_log = logging.getLogger("edgead.serve")

LOOK_S = 2.0
"""How often each bundle is looked at for a change."""
GRACE_S = 10
"""How long requests under way may take when the server ends."""
MOST_REQUESTS = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be served, and how.

    Attributes:
        models: bundles and what clients call them.
        http: where HTTP is spoken: the protocol, and /metrics.
        grpc: where gRPC is; None: nowhere.
        engine: name of the engine in each bundle; None: the bundle's default.
        threads: CPU threads of one inference; None: the engine's choice.
        budget_ms: from a request's arrival to each of its verdicts; later is UNKNOWN. None: no limit.
        requests: so many are held at once, on each address; more are refused.
        trusted: one of these keys must have signed each bundle; empty: none need be signed.
    """

    models: tuple[Named, ...]
    http: Address
    grpc: Address | None = None
    engine: str | None = None
    threads: int | None = None
    budget_ms: float | None = None
    requests: int = MOST_REQUESTS
    trusted: tuple[TrustedKey, ...] = ()


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What became of one served bundle.

    Attributes:
        name: of the model.
        version: of it; "" where it has none.
        bundle: its folder.
        sha256: of the bundle that answered last.
        engine: that answered last.
        verdicts: given, by verdict.
        causes: of those that have one, by its first word.
        exchanged: how often the bundle was exchanged for a changed one.
        refused: how often a changed bundle was not taken.
    """

    name: str
    version: str
    bundle: Path
    sha256: str
    engine: str
    verdicts: dict[str, int]
    causes: dict[str, int]
    exchanged: int
    refused: int


@dataclass(frozen=True, slots=True)
class ServeResult:
    """What a server did until it was stopped.

    Attributes:
        http: host and port of HTTP.
        grpc: host and port of gRPC; null where it was not spoken.
        models: that were served.
    """

    http: str
    grpc: str | None
    models: tuple[ServedModel, ...]


class Server:
    """Serves bundles until it is stopped. Used as a context manager.

    The addresses are taken first, then every bundle is opened, verified and proved, and only then are requests answered.

    Args:
        wanted: bundles and addresses.
        clock: of the budget.

    Raises:
        BadInput: names clash, no such engine.
        OutputError: an address cannot be listened on.
        MissingExtra: pip install 'edgead[serve]', or an engine's package.
        EdgeadError: a bundle cannot be used.
    """

    def __init__(self, wanted: Wanted, clock: Clock | None = None) -> None:
        if not wanted.models:
            raise BadInput("nothing to serve", hint="name a bundle")
        check_names(wanted.models)
        self._wanted, self._stopped = wanted, False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        with ExitStack() as held:
            self._socket = held.enter_context(_bound(wanted.http))
            if wanted.grpc is not None and wanted.grpc.port:
                try_listening(wanted.grpc.host, wanted.grpc.port, "cannot listen")
            self._library = Library()
            shelf = Shelf(threads=wanted.threads, trusted=wanted.trusted)
            self._served: list[Served] = []
            for named in wanted.models:
                model = Served(named, shelf, wanted.engine, wanted.budget_ms, clock or MonotonicClock())
                held.callback(model.close)
                self._served.append(model)
            self._looking = held.enter_context(ThreadPoolExecutor(1, "edgead-serve look"))
            self._held = held.pop_all()
        self._metrics = Metrics(self._served)
        self.http = wanted.http.at(self._socket.getsockname()[1])
        self.grpc: str | None = None

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Answer until :meth:`stop`; what is under way then is answered, too. `ready` is called once requests are taken."""
        asyncio.run(self._run(ready))

    def stop(self) -> None:
        """Let `run` return soon; from any thread, and from a signal handler."""
        self._stopped = True
        if self._loop is not None and self._end is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._end.set)

    def result(self) -> ServeResult:
        """What was done so far."""
        return ServeResult(self.http, self.grpc, tuple(_result(one) for one in self._served))

    async def _run(self, ready: Callable[[], None]) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        repository = Repository(self._library, [Model(self._library, one, self._metrics) for one in self._served], self._look)
        plane = data_plane(self._library, repository)
        extension = self._library.repository.ModelRepositoryExtension(model_registry=repository)
        http = _http(self._library, plane, extension, self._metrics, self._wanted.requests)
        grpc = None
        if self._wanted.grpc is not None:
            grpc, self.grpc = await self._grpc(self._wanted.grpc, plane, extension)
        serving = asyncio.create_task(http.serve(sockets=[self._socket]))
        looking = asyncio.create_task(self._look_again())
        ending = asyncio.create_task(self._end.wait())
        try:
            while not (http.started or serving.done()):
                await asyncio.sleep(0.005)
            if not self._stopped:
                ready()
                await asyncio.wait((serving, looking, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
            ending.cancel()
            http.should_exit = True
            if grpc is not None:
                await grpc.stop(GRACE_S)
            await serving
            with contextlib.suppress(asyncio.CancelledError):
                await looking

    async def _grpc(self, address: Address, plane: Any, extension: Any) -> tuple[Any, str]:
        grpc = require("grpc", extra="serve", why="Serving models")
        interceptors = self._library.interceptors
        lengths = [("grpc.max_receive_message_length", MOST_BYTES), ("grpc.max_send_message_length", -1)]
        server = grpc.aio.server(
            interceptors=(interceptors.ExceptionToStatusInterceptor(),),
            options=[*lengths, ("grpc.so_reuseport", 0)],  # else two servers share a port without a word
            maximum_concurrent_rpcs=self._wanted.requests,
        )
        self._library.stubs.add_GRPCInferenceServiceServicer_to_server(Servicer(self._library, plane, extension), server)
        try:
            port = server.add_insecure_port(address.at(address.port))
        except RuntimeError as error:  # somebody was faster
            raise refused(address.host, address.port, "cannot listen", OSError(one_line(str(error)))) from error
        await server.start()
        return server, address.at(port)

    async def _look(self, served: Served) -> bool:
        assert self._loop is not None
        return await self._loop.run_in_executor(self._looking, served.look)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for one in self._served:
                await self._look(one)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


def _bound(address: Address) -> socket.socket:
    """A socket that has the address, and refuses connections until the server listens."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(found[0], found[1], found[2])
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(found[4])
        except BaseException:
            made.close()
            raise
    except OSError as error:
        raise refused(address.host, address.port, "cannot listen", error) from error
    return made


def _http(library: Library, plane: Any, extension: Any, metrics: Metrics, requests: int) -> Any:
    """The library's routes in an application of our own (its own listens on all addresses, and has routes we do not serve)."""
    fastapi = require("fastapi", extra="serve", why="Serving models")
    responses = require("fastapi.responses", extra="serve", why="Serving models")
    uvicorn = require("uvicorn", extra="serve", why="Serving models")
    app = fastapi.FastAPI(title="edgead", docs_url=None, redoc_url=None, openapi_url=None,
                          default_response_class=_nan_is_null(responses))  # fmt: skip
    library.endpoints.register_v2_endpoints(app, plane, extension)

    async def show_metrics() -> Any:
        kind, body = metrics.render()
        return responses.Response(body, headers={"content-type": kind})

    app.add_api_route("/metrics", show_metrics, methods=["GET"], response_model=None)
    errors, validation = library.errors, require("fastapi.exceptions", extra="serve", why="Serving models")

    def answers(status: int) -> Callable[[Any, Exception], Any]:
        async def handler(_: Any, error: Exception) -> Any:
            text = one_line(str(error))
            if isinstance(error, validation.RequestValidationError):  # its own text repeats the whole request
                first = error.errors()[0]
                text = one_line(f"the request is not of the protocol's form: {'.'.join(map(str, first['loc']))}: {first['msg']}")
            _log.info("refused with %d: %s", status, text)
            return responses.JSONResponse({"error": text}, status)

        return handler

    async def said(_: Any, error: Any) -> Any:
        return responses.JSONResponse({"error": one_line(str(error.detail))}, error.status_code)

    app.add_exception_handler(validation.StarletteHTTPException, said)
    for status, kinds in (
        (400, (errors.InvalidInput, errors.InferenceError, errors.UnsupportedProtocol, validation.RequestValidationError)),
        (404, (errors.ModelNotFound,)),
        (503, (errors.ModelNotReady, errors.ServerNotReady, errors.ServerNotLive)),
    ):
        for kind in kinds:
            app.add_exception_handler(kind, answers(status))
    config = uvicorn.Config(Door(app), log_config=None, access_log=False, server_header=False, lifespan="off",
                            limit_concurrency=requests, timeout_graceful_shutdown=GRACE_S)  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # signals are the verb's affair
    return server


def _nan_is_null(responses: Any) -> Any:
    """FastAPI's own JSON knows no NaN: the score of a picture that there is none of."""
    orjson = require("orjson", extra="serve", why="Serving models")

    def render(self: Any, content: Any) -> bytes:
        found: bytes = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        return found

    return type("NanIsNull", (responses.JSONResponse,), {"render": render})


def _result(one: Served) -> ServedModel:
    counts, named = one.counts, one.wanted
    return ServedModel(named.name, named.version, named.path, one.bundle.digest, one.engine, dict(counts.verdicts),
                       dict(counts.causes), counts.exchanged, counts.refused)  # fmt: skip

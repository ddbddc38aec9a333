"""edgead as an OPC UA server after OPC 40100-1 (OPC UA for Machine Vision, part 1): what is there is in docs/devices/opcua.md."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from edgead.clock import Clock, MonotonicClock
from edgead.errors import BadInput, OutputError
from edgead.runtime import LOOP_TIMEOUT_S
from edgead.runtime.conditions import Condition
from edgead.runtime.listening import check_host, refused, try_listening
from edgead.runtime.plc.certificates import read_certificate
from edgead.runtime.plc.loops import LoopThread
from edgead.runtime.plc.opcua import asyncua
from edgead.runtime.records.wallclock import believable, clock_says, day, utc_now
from edgead.runtime.vision import model as model
from edgead.runtime.vision.catalog import NOT_KNOWN, Catalog
from edgead.runtime.vision.entry import Users, identity_of
from edgead.runtime.vision.settings import VisionSettings
from edgead.runtime.vision.space import Space
from edgead.runtime.vision.states import Step, VisionStates
from edgead.types import Inspection, StageTimes, Trigger, Verdict

NAMESPACE = "urn:edgead:station"
"""Namespace of the VisionSystem; also the application's URI when its certificate has none."""

MAX_PENDING = 256
"""Verdicts that may wait to be published."""

MAX_CONNECTIONS = 32
"""Clients at once."""

BURST = 500
"""Connections more that may come within a tick: where it is full, asyncua turns away the newest, who may be the PLC."""

ENTRY_S, SESSION_MS = 10.0, 120_000.0
"""A connection that has no session by then is closed; a session without a sign of life ends after so long at most."""

TICK_S = 0.02
RETRY_S = 2.0
"""An address that cannot be listened on is tried again so often."""
_NOTICE = "OPC UA server"
ALONE_S = 5.0
"""A client that is away for so long is told of; one that connects again is not."""
REFUSED_S = 60.0
"""How long clients that were refused are told of."""
START_S, STOP_S = 30.0, 5.0
REFUSED = "BadInvalidState"

_WAYS = {
    "Halted": "a client has called Halt: Reset, then SelectModeAutomatic",
    "Preoperational": "a client has called Reset: SelectModeAutomatic; and whether the station runs",
    "Initialized": "the recipe that a client asked for (PrepareRecipe)",
    "Error": "the station stands still",
}
"""States in which no job can be started, and the way out."""
_SHUT = frozenset(_WAYS)

_log = logging.getLogger("edgead.opcua")


@dataclass(frozen=True, slots=True)
class _Job:
    job_id: Any
    part_id: Any
    meas_id: Any
    product_id: Any
    trigger: Trigger
    since: datetime
    continuous: bool


class OpcUaServer:
    """A VisionSystem that clients find by its type. A TriggerSource and an Output.

    StartSingleJob is a trigger: its PartId, when it is a number, is the trigger's part id; the verdict comes as a
    ResultReadyEvent and by GetResultById. StartContinuous triggers again and again, as soon as the last verdict is there and
    `pause_s` is over, until Stop. Each job's trigger gets exactly one result, UNKNOWN when the station gives none in time.
    Verdicts on other triggers, or without one, are published as results without a job.

    ResultContent holds [verdict, cause, score, threshold]: two strings ("OK", "NG", "UNKNOWN") and two doubles, raw model units;
    the score is NaN when there is none.

    Args:
        settings: see there; port 0 takes any free one (see `port`).
        name: of the VisionSystem.
        recipe: external and internal id of the recipe that runs, unless a number is told by `set_recipe`.
        recipes: numbers of the recipes that clients may ask for; their ids are these numbers as text.
        starts: False: the Start methods are refused, since the station's triggers come from elsewhere.
        answer_timeout_s: a trigger without a verdict for so long is UNKNOWN(no_answer).
        loop_timeout_s: without progress of the station for so long, the state is Error.
        clock: stamps triggers and judges deadlines; the one that the station uses.
        source: the source of its triggers.

    Attributes:
        port: where it listens.

    Raises:
        BadInput: an option makes no sense, a certificate cannot be used, or this is no address. An address that cannot be
            listened on now is no error: it is tried again and again (`watch`).
        MissingExtra: asyncua is not installed.
    """

    def __init__(
        self,
        settings: VisionSettings,
        *,
        name: str = "edgead",
        recipe: str = "recipe",
        recipes: Sequence[int] = (),
        starts: bool = True,
        answer_timeout_s: float,
        loop_timeout_s: float = LOOP_TIMEOUT_S,
        clock: Clock | None = None,
        source: str = "opcua",
    ) -> None:
        bind, port, pause_s = settings.bind, settings.port, settings.pause_ms / 1000
        if not (pause_s > 0 and answer_timeout_s > 0 and loop_timeout_s > 0):
            raise BadInput("the times of an OPC UA server must be above 0 s")
        self.name, self.port = source, port
        self._counts: Counter[str] = Counter()
        self._ua = asyncua("ua")
        self._identity = identity_of(settings.certificate, settings.key, settings.key_password, uri=NAMESPACE, bind=bind)
        self._trusted = {read_certificate(path).der for path in settings.trusted}
        self._bind, self._login, self._anonymous = bind, (settings.user, settings.password), settings.anonymous
        self._system_name, self._recipe, self._starts = name, recipe, starts
        self._pause_s, self._answer_ns, self._stall_ns = pause_s, int(answer_timeout_s * 1e9), int(loop_timeout_s * 1e9)
        self._clock = clock or MonotonicClock()
        self._states = VisionStates()
        self._jobs: OrderedDict[int, _Job] = OrderedDict()
        self._job: _Job | None = None  # the one that single or continuous execution is at
        self._next_trigger = 1
        self._numbers, self._request = tuple(recipes), 0
        self._triggers: deque[Trigger] = deque()
        self._lock = threading.Lock()
        self._asked = threading.Condition(self._lock)
        self._beat_ns: int | None = None
        self._pending: deque[Inspection] = deque()
        self._closing = False
        self._server: Any = None
        self._space: Any = None
        self._one = asyncio.Lock()
        self._listens, self._listen_at_s, self._not_yet = False, 0.0, ""
        self._told: Callable[[str, str], None] | None = None
        self._alone_ns: int | None = self._clock.now_ns()  # since when no client has a session
        self._shut: tuple[str, int] | None = None  # a state in which no job can be started, and since when
        self._last_refused: tuple[str, int] | None = None
        self._told_conditions: dict[str, Condition] = {}
        check_host(bind)
        self._loop = LoopThread(source)
        try:
            self._loop.run(self._build(), START_S)
            self._loop.run(self._listen(), START_S)
        except Exception as error:
            self._stop()
            raise BadInput(f"cannot serve OPC UA on {bind}:{port}: {error}", hint="see edgead docs opcua") from error
        self._ticker = asyncio.run_coroutine_threadsafe(self._run(), self._loop.loop)

    def watch(self, tell: Callable[[str, str], None]) -> None:
        """`tell(name, text)` is called with why nobody can be served now, and with "" once somebody can (Station.notice)."""
        self._told = tell
        if self._not_yet:
            tell(_NOTICE, self._not_yet)

    def counts(self) -> dict[str, int]:
        """What was counted: "jobs", "results", "dropped" (verdicts on jobs that were answered before), "unknown:" with the causes
        that were told in place of a verdict, and clients that were not let in, "refused:login", "refused:barred" (too many wrong
        passwords), "refused:certificate" and "refused:connections".
        """
        return dict(self._counts)

    def conditions(self) -> dict[str, Condition]:
        """What keeps parts from flowing, or would go unseen, for people; by names like "opcua client"."""
        now_ns = self._clock.now_ns()
        found = {}
        if self._starts and self._listens and self._alone_ns is not None and now_ns - self._alone_ns > ALONE_S * 1e9:
            found["client"] = Condition(
                "no client has a session; expected: the PLC's, which starts each job; look at: the PLC's OPC UA client, its "
                "address, and that it trusts our certificate"
            )
        elif self._starts and self._shut is not None and now_ns - self._shut[1] > ALONE_S * 1e9:
            found["state"] = Condition(
                f"the vision system is {self._shut[0]}, in which no job can be started; expected: Ready; look at: "
                f"{_WAYS.get(self._shut[0], 'the station itself')}"
            )
        if self._last_refused is not None and now_ns - self._last_refused[1] < REFUSED_S * 1e9:
            text = f"refused a client {self._last_refused[0]}; look at: the user, the certificates (trusted), and who that is"
            found["refused"] = Condition(text, blocks=False)
        place = f"the OPC UA server on {self._bind}:{self.port}"
        return {f"{self.name} {name}": replace(c, text=f"{place}: {c.text}") for name, c in found.items()}

    def _look(self) -> None:
        """Who is there, and what could be started; what changes goes into the log."""
        now_ns = self._clock.now_ns()
        alone = not any(_entered(client) for client in self._server.bserver.clients) if self._listens else True
        self._alone_ns = (self._alone_ns if self._alone_ns is not None else now_ns) if alone else None
        state = self._states.state
        if state not in _SHUT:
            self._shut = None
        elif self._shut is None or self._shut[0] != state:
            self._shut = state, now_ns
        found = self.conditions()
        before, self._told_conditions = self._told_conditions, found
        for name, condition in found.items():
            if name not in before and not name.endswith(" refused"):  # which was told as it came
                _log.warning(f"%s ({name})", condition.text)
        for name in before.keys() - found.keys():
            if not name.endswith(" refused"):
                _log.info("%s is as it should be again", name)

    # TriggerSource

    def wait(self, timeout_s: float) -> Trigger | None:
        """The next trigger. Raises OutputError when closed."""
        with self._lock:
            self._asked.wait_for(lambda: self._triggers or self._closing, timeout_s)
            if self._triggers:
                return self._triggers.popleft()
            if self._closing:
                raise OutputError(f"{self.name} is closed")
            return None

    # Output

    def signal(self, inspection: Inspection) -> None:
        """Hand the verdict over; clients are told by the server's own thread. Raises OutputError when closed or full."""
        with self._lock:
            if self._closing:
                raise OutputError(f"{self.name} is closed")
            if len(self._pending) >= MAX_PENDING:
                raise OutputError(f"{self.name} does not get rid of its results")
            self._pending.append(inspection)

    def heartbeat(self) -> None:
        """The station's loop has made progress."""
        with self._lock:
            self._beat_ns = self._clock.now_ns()

    def fail_safe(self) -> None:
        """Jobs without a published verdict become UNKNOWN, and the state is Preoperational until the next heartbeat."""
        with self._lock:
            self._beat_ns = None
            self._pending = deque(_unknown(i, "stopped") for i in self._pending)

    def close(self) -> None:
        """Tell what is still in work as UNKNOWN, and stop serving; may be called twice."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._beat_ns = None
            self._asked.notify_all()
        self._loop.run(self._tick(), STOP_S)
        self._stop()

    def _stop(self) -> None:
        if self._server is not None:
            self._loop.run(self._server.stop(), STOP_S)
        self._loop.close()

    # On the server's thread

    async def _build(self) -> None:
        """All but listening."""
        ua = self._ua
        server = asyncua("").Server(user_manager=Users(self._login, self._anonymous, self._refused, self._peer))
        await server.init()
        server.iserver.max_connections = MAX_CONNECTIONS + BURST  # of which `_few` leaves MAX_CONNECTIONS
        server.iserver.max_pending_activation_seconds, server.iserver.max_session_timeout_ms = ENTRY_S, SESSION_MS
        server.name, server.manufacturer_name = "edgead", "edgead"
        await server.set_application_uri(self._identity.certificate.uri or NAMESPACE)
        server.set_security_policy(
            [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt, ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt]
        )
        server.set_identity_tokens([ua.AnonymousIdentityToken] if self._anonymous else [ua.UserNameIdentityToken])
        await server.load_certificate(self._identity.certificate.der, "der")
        await server.load_private_key(self._identity.key_pem, format="pem")
        if self._trusted:
            server.set_certificate_validator(self._admit)
        self._space = Space(server, self._system_name, NAMESPACE)
        self._catalog = Catalog(self._space, self._system_name, self._recipe, self._numbers)
        await self._space.build(_handlers(self, self._catalog))
        await self._space.configure(self._catalog.configuration())
        await self._space.show(self._states.outer, self._states.inner, None)
        server.set_endpoint(f"opc.tcp://{self._bind}:{self.port}/edgead")
        self._server = server

    async def _listen(self) -> None:
        """Begin to serve, if the address can be listened on by now; each change is told once."""
        try:
            try_listening(self._bind, self.port, "cannot serve OPC UA")  # asyncua cannot be started a second time
            try:
                await self._server.start()
            except OSError as error:  # somebody was faster
                await self._build()
                raise refused(self._bind, self.port, "cannot serve OPC UA", error) from error
        except OutputError as error:
            self._listen_at_s = time.monotonic() + RETRY_S
            text = f"{error} ({error.hint})"
            if text != self._not_yet:
                self._not_yet = text
                _log.warning("%s: %s; it is tried again every %g s", self.name, text, RETRY_S)
                self._notice(text)
            return
        self._listens = True
        self.port = self._server.bserver.port or self.port
        if self._not_yet:
            self._not_yet = ""
            _log.warning("%s: serves on %s:%d now", self.name, self._bind, self.port)
            self._notice("")

    def _notice(self, text: str) -> None:
        if self._told is not None:
            self._told(_NOTICE, text)

    async def _admit(self, certificate: Any, _application: Any) -> None:
        der = asyncua("crypto.uacrypto").der_from_x509(certificate)
        service_error = asyncua("common.utils").ServiceError
        if der not in self._trusted:
            self._refused("certificate", "whose certificate is not trusted")
            raise service_error(self._ua.StatusCodes.BadCertificateUntrusted)
        now, until = utc_now(), certificate.not_valid_after_utc
        if believable(now) and now > until:
            self._refused("certificate", f"whose certificate expired on {day(until)} ({clock_says(now)})")
            raise service_error(self._ua.StatusCodes.BadCertificateTimeInvalid)

    def _peer(self) -> str:
        """The address of the client whose request is being served."""
        task = asyncio.current_task()
        clients = self._server.bserver.clients if self._server is not None and self._server.bserver is not None else []
        found = next((client for client in clients if getattr(client, "_task", None) is task), None)
        return str(found.peer_name[0]) if found is not None and found.peer_name else "?"

    def _few(self) -> None:
        """Of too many connections, the oldest without a session make room, so that whoever enters can."""
        clients = list(self._server.bserver.clients) if self._listens else []
        idle = [client for client in clients if not _entered(client)]
        for client in idle[: max(0, len(clients) - MAX_CONNECTIONS)]:
            self._refused("connections", f"at {(client.peer_name or '?')[0]}: more than {MAX_CONNECTIONS} are connected")
            if client.transport is not None:
                client.transport.abort()

    def _refused(self, cause: str, what: str) -> None:
        self._counts[f"refused:{cause}"] += 1
        self._last_refused = what, self._clock.now_ns()
        _log.warning("%s: refused a client %s", self.name, what)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._tick()
                self._few()
                self._look()
                if not self._listens and not self._closing and time.monotonic() > self._listen_at_s:
                    await self._listen()
            except Exception:  # noqa: BLE001 - the next tick may succeed, and clients see the error by the missing result
                _log.exception("%s: this should not happen", self.name)

    async def _tick(self) -> None:
        """Whatever is due: the station's progress, verdicts, time-outs, the next trigger of continuous execution."""
        async with self._one:
            now_ns = self._clock.now_ns()
            with self._lock:
                told, self._pending = list(self._pending), deque()
                beat_ns = self._beat_ns
            for inspection in told:
                await self._publish(inspection, now_ns)
            stalled = beat_ns is not None and now_ns - beat_ns > self._stall_ns
            await self._made(self._states.loop(runs=beat_ns is not None, stalled=stalled))
            why = "stopped" if beat_ns is None else "loop_stalled" if stalled else ""
            for key, job in list(self._jobs.items()):
                if why or now_ns - job.trigger.at_ns > self._answer_ns:
                    await self._give_up(key, why or "no_answer")
            if not self._states.inner:
                self._job = None
            elif self._job is not None and self._job.continuous and not self._jobs and self._paused(now_ns):
                self._trigger(self._job)

    def _paused(self, now_ns: int) -> bool:
        return self._job is not None and now_ns - self._job.trigger.at_ns >= self._pause_s * 1e9

    async def _made(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await self._space.show(self._states.outer, self._states.inner, step)
            await self._space.changed(step)
            if step.after == "Ready":
                job_id = self._job.job_id if self._job is not None else self._catalog.job_id(None)
                await self._space.fire("ReadyEventType", "ready", {"JobId": job_id})

    async def _publish(self, inspection: Inspection, now_ns: int) -> None:
        trigger = inspection.trigger
        job = None
        if trigger is not None and trigger.source == self.name:
            job = self._jobs.pop(trigger.trigger_id, None)
            if job is None:
                self._counts["dropped"] += 1
                return
        if inspection.deadline_ns is not None and now_ns > inspection.deadline_ns:
            inspection = _unknown(inspection, "late_output")
        await self._tell(inspection, job)

    async def _give_up(self, key: int, cause: str) -> None:
        job = self._jobs.pop(key)
        with self._lock:
            self._triggers = deque(trigger for trigger in self._triggers if trigger.trigger_id != key)
        self._counts[f"unknown:{cause}"] += 1
        await self._tell(Inspection(0, Verdict.UNKNOWN, cause, math.nan, math.nan, None, StageTimes(), None, job.trigger), job)

    async def _tell(self, inspection: Inspection, job: _Job | None) -> None:
        """One result: kept, and fired."""
        self._counts["results"] += 1
        make, catalog = self._space.make, self._catalog
        if job is None:
            result = catalog.add(inspection, catalog.job_id(None), PartId=make(model.PART_ID, Id=_part(inspection)))
        else:
            given = {"MeasId": job.meas_id, "PartId": job.part_id, "ProductId": job.product_id, "since": job.since}
            result = catalog.add(inspection, job.job_id, **given)
        if inspection.frame is not None and job is not None:
            await self._space.fire("AcquisitionDoneEventType", "picture taken", {"JobId": job.job_id})
        names = [field.name for field in model.EVENTS["ResultReadyEventType"][2]]
        values = {name: getattr(result, name) for name in names}
        await self._space.fire("ResultReadyEventType", f"{inspection.verdict.value} {inspection.cause}".strip(), values)
        if job is not None and job is self._job and not job.continuous:
            await self._made(self._states.end("Auto"))
            self._job = None

    def _trigger(self, job: _Job) -> None:
        """One more trigger for this job."""
        text = job.part_id.Id or ""
        part_id = int(text) if text.isascii() and text.isdigit() else None
        trigger = Trigger(self._next_trigger, self._clock.now_ns(), part_id, source=self.name)
        self._next_trigger += 1
        self._job = replace(job, trigger=trigger, since=utc_now())
        self._jobs[trigger.trigger_id] = self._job
        with self._lock:
            self._triggers.append(trigger)
            self._asked.notify_all()

    # Recipes, as a :class:`edgead.runtime.products.recipes.RecipeBook` wants them

    @property
    def recipe_request(self) -> int:
        """Number of the recipe that a client has asked for; 0 is any."""
        return self._request

    def set_recipe(self, recipe: int) -> None:
        """Tell the clients which recipe runs now; 0 is the only one, under its own name."""
        if not self._closing:
            self._loop.run(self._prepared(str(recipe) if recipe else self._recipe), STOP_S)

    def refuse_recipe(self) -> None:
        """The recipe that was asked for cannot be run: the system stays Initialized until a client prepares another one."""
        self._request = 0

    # The standard's methods

    async def start(self, continuous: bool, meas_id: Any, part_id: Any, recipe_id: Any, product_id: Any) -> Sequence[Any] | str:
        async with self._one:
            if not self._starts:
                return "BadNotSupported"
            if _named(recipe_id) not in ("", self._catalog.recipe):
                return [self._catalog.job_id(None), NOT_KNOWN]
            steps = self._states.start(continuous=continuous)
            if not steps:
                return REFUSED
            self._counts["jobs"] += 1
            job = _Job(
                job_id=self._catalog.job_id(self._counts["jobs"]),
                part_id=part_id or self._space.make(model.PART_ID, Id=""),
                meas_id=meas_id,
                product_id=product_id,
                trigger=Trigger(0, 0),
                since=utc_now(),
                continuous=continuous,
            )
            self._trigger(job)
            await self._made(steps)
            await self._space.fire("JobStartedEventType", "job started", {"JobId": job.job_id})
            return [job.job_id, 0]

    async def end(self, how: str) -> Sequence[Any] | str:
        """Stop ends continuous execution after its part; Abort tells the part as UNKNOWN at once."""
        async with self._one:
            single = self._states.state == "SingleExecution"
            if how == "Stop" and single and self._jobs:
                return [0]  # it ends by itself when its part has its verdict
            steps = self._states.end(how)
            if not steps:
                return REFUSED
            if how == "Abort":
                for key in list(self._jobs):
                    await self._give_up(key, "aborted")
            await self._made(steps)
            self._job = None
            return [0]

    async def change(self, move: Callable[[], list[Step]]) -> Sequence[Any] | str:
        """Halt, Reset and SelectModeAutomatic."""
        async with self._one:
            steps = move()
            if not steps:
                return REFUSED
            for key in list(self._jobs):
                await self._give_up(key, "stopped")
            self._job = None
            await self._made(steps)
            return [0]

    async def halt(self, *_: Any) -> Sequence[Any] | str:
        return await self.change(self._states.halt)

    async def reset(self, *_: Any) -> Sequence[Any] | str:
        return await self.change(self._states.reset)

    async def select_automatic(self) -> Sequence[Any] | str:
        return await self.change(self._states.select_automatic if self._beat_ns is not None else list)

    async def recipes(self, external: Any, _product: Any, prepared: int, most: int, first: int, _timeout: int) -> Sequence[Any]:
        ready = self._states.inner not in ("", "Initialized")
        return self._catalog.recipe_list(external, prepared, most, first, ready)

    async def prepare(self, external: Any, internal: Any) -> Sequence[Any] | str:
        """The recipe that runs is prepared at once; another one is asked for, and its RecipePreparedEvent comes later."""
        catalog = self._catalog
        name = _named(external, internal)
        if name not in catalog.recipes:
            return [catalog.recipe_id(""), False, NOT_KNOWN]
        if self._states.inner not in ("Initialized", "Ready"):
            return REFUSED
        if name == catalog.recipe:
            self._request = int(name) if name.isdigit() else 0
            await self._prepared(name)
            return [catalog.recipe_id(name), True, 0]
        async with self._one:
            step = self._states.go("ReadyToInitializedRecipe")
            await self._made([step] if step is not None else [])
            self._request = int(name)
            return [catalog.recipe_id(name), False, 0]

    async def unprepare(self, external: Any, internal: Any) -> Sequence[Any] | str:
        async with self._one:
            if _named(external, internal) != self._catalog.recipe:
                return [self._catalog.recipe_id(""), NOT_KNOWN]
            step = self._states.go("ReadyToInitializedRecipe")
            if step is None:
                return REFUSED
            await self._made([step])
            return [self._catalog.recipe_id(self._catalog.recipe), 0]

    async def _prepared(self, name: str) -> None:
        async with self._one:
            self._catalog.recipe = name
            step = self._states.go("InitializedToReadyRecipe")
            await self._made([step] if step is not None else [])
            values = {"InternalId": self._catalog.recipe_id(name)}
            await self._space.fire("RecipePreparedEventType", f"recipe {name} runs", values)


def _handlers(server: OpcUaServer, catalog: Catalog) -> dict[str, Any]:
    async def single(meas: Any, part: Any, recipe: Any, product: Any, _parameters: Any) -> Sequence[Any] | str:
        return await server.start(False, meas, part, recipe, product)

    async def continuous(meas: Any, part: Any, recipe: Any, product: Any, _parameters: Any) -> Sequence[Any] | str:
        return await server.start(True, meas, part, recipe, product)

    async def stop(*_: Any) -> Sequence[Any] | str:
        return await server.end("Stop")

    async def abort(*_: Any) -> Sequence[Any] | str:
        return await server.end("Abort")

    return {
        "Halt": server.halt,
        "Reset": server.reset,
        "SelectModeAutomatic": server.select_automatic,
        "StartSingleJob": single,
        "StartContinuous": continuous,
        "Stop": stop,
        "Abort": abort,
        "GetResultById": catalog.result_by_id,
        "GetResultComponentsById": catalog.result_components,
        "GetResultListFiltered": catalog.results,
        "GetRecipeListFiltered": server.recipes,
        "PrepareRecipe": server.prepare,
        "UnprepareRecipe": server.unprepare,
        "ActivateConfiguration": catalog.activate,
        "GetConfigurationById": catalog.configuration_by_id,
        "GetConfigurationList": catalog.configurations,
    }


def _entered(client: Any) -> bool:
    """Has this connection a session that is in use?"""
    return client.processor is not None and client.processor.session is not None and bool(client.processor.session.is_activated())


def _unknown(inspection: Inspection, cause: str) -> Inspection:
    if inspection.verdict is Verdict.UNKNOWN:
        return inspection
    return replace(inspection, verdict=Verdict.UNKNOWN, cause=cause)


def _named(*ids: Any) -> str:
    """The one recipe that these ids name; "" when they name none, or two."""
    given = {one.Id for one in ids if one is not None and one.Id}
    return str(given.pop()) if len(given) == 1 else ""


def _part(inspection: Inspection) -> str:
    trigger = inspection.trigger
    return str(trigger.part_id if trigger is not None and trigger.part_id is not None else inspection.part_id)

"""The handshake over OPC UA, as the client of a PLC's server. Tag list: deploy/plc/opcua.csv; docs/devices/opcua.md.

The files opcua*.py are the only ones that know asyncua (2.1). OPC 10000-4: one Write and one Read service call
for each exchange; security policies Basic256Sha256, Aes128_Sha256_RsaOaep and Aes256_Sha256_RsaPss, always SignAndEncrypt.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlparse, urlsplit

from edgead.claims import Claim, host_of
from edgead.errors import BadInput, EdgeadError, LinkError
from edgead.optional import require
from edgead.runtime.plc.certificates import Certificate, Identity, read_certificate, read_identity
from edgead.runtime.plc.device import SLOW
from edgead.runtime.plc.loops import CLOSE_S, LoopThread
from edgead.runtime.plc.settings import LinkSettings, ThresholdBounds
from edgead.runtime.plc.signals import SIGNALS, Direction, FromPlc, Signal, ToPlc, signals, to_plc_of, to_words
from edgead.settings import Positive

if TYPE_CHECKING:
    from edgead.located import Place

Security = Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "none"]

NODE = "ns=2;s=edgead.{block}.{signal}"
"""Default pattern of the variables' node ids; blocks are "to_plc" and "from_plc"."""

REFRESH_EXCHANGES = 10
"""A block that has not changed is written again after so many exchanges, in case the PLC's memory was cleared."""

SESSION_S = 10.0
"""A PLC forgets a session that we lost after so long: most have few of them."""

MOST_LEFT = 2
"""So many sessions that we have left may wait for the PLC to close them; until it does, no other is asked for."""

_BAD_LOGIN = ("BadUserAccessDenied", "BadIdentityTokenInvalid", "BadIdentityTokenRejected", "BadUserSignatureInvalid")
_CUT = (
    "BadConnectionClosed",
    "BadSecureChannelClosed",
    "BadSecureChannelIdInvalid",
    "BadSessionClosed",
    "BadSessionIdInvalid",
    "BadSessionNotActivated",
    "BadServerHalted",
    "BadShutdown",
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdNode(ThresholdBounds):
    """A variable, a Float or Double, in which the PLC gives the threshold; 0 is the bundle's own."""

    node: str
    """Its node id, e.g. ns=4;s=Threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcUaClientSettings(LinkSettings):
    """edgead reads and writes variables of the PLC's OPC UA server (tag list: deploy/plc/opcua.md; docs/devices/opcua.md)."""

    type: Literal["opcua-client"] = "opcua-client"
    url: str
    """opc.tcp://host:port/path"""
    node: str = NODE
    """Pattern of the variables' node ids; {block} becomes to_plc or from_plc. nsu=URI;s=... finds the namespace by name."""
    nodes: dict[str, str] = field(default_factory=dict)
    """Node ids of single signals, e.g. {from_plc.trigger: "ns=4;i=17"}."""
    security: Security = "Basic256Sha256"
    """All messages are signed and encrypted; none sends everything in the clear, the password as well."""
    certificate: Path | None = None
    """Ours; the PLC must trust it."""
    key: Path | None = None
    key_password: str | None = None
    server_certificate: Path | None = None
    """The PLC's own."""
    user: str | None = None
    password: str | None = None
    """Anonymous without."""
    timeout_ms: Positive = 200.0
    """For the write and read of one exchange together."""
    connect_timeout_ms: Positive = 2000.0
    """For connecting with its handshakes, which take a small PLC up to seconds."""
    cycle_ms: Positive = 10.0
    threshold: ThresholdNode | None = None
    """The PLC may give the threshold, within bounds (docs/thresholds.md)."""

    def __post_init__(self) -> None:
        LinkSettings.__post_init__(self)
        if "{block}" not in self.node or "{signal}" not in self.node:
            raise BadInput("node: the pattern needs {block} and {signal}, e.g. ns=2;s=edgead.{block}.{signal}")

    def claims(self, owner: str, place: Place) -> Iterator[Claim]:
        hint = "each camera needs variables of its own: give another pattern as node, or other nodes"
        try:
            parts = urlsplit(self.url)
            where = (host_of(parts.hostname or ""), parts.port or 4840)
        except ValueError:  # told when it is opened
            return
        for block, name in ((signal.direction.value, signal.name) for signal in SIGNALS):
            given = self.nodes.get(f"{block}.{name}")
            node = self.node.replace("{block}", block).replace("{signal}", name) if given is None else given
            scope, identifier = namespace_of(node)
            key: Place = (*place, "node") if given is None else (*place, "nodes", f"{block}.{name}")
            yield Claim(key, owner, "opcua", (*where, identifier), f"the node {node} of {self.url}", hint, scope=scope)


def namespace_of(node: str) -> tuple[str, str]:
    """Namespace and identifier, as the server compares them."""
    space, identifier = "0", node.strip()
    if found := re.fullmatch(r"(nsu=.*|ns=\d+)\s*;\s*([isgb]=.*)", identifier, re.DOTALL):
        identifier = found[2]
        space = found[1] if found[1].startswith("nsu=") else str(int(found[1][3:]))
    kind, _, value = identifier.partition("=")
    if kind == "i" and value.strip().isdigit():
        value = str(int(value))
    return space, f"{kind}={value.casefold() if kind == 'g' else value}"


class OpcUaClientLink:
    """Writes the station's block into variables of a PLC's OPC UA server and reads the PLC's block from there.

    It connects on the first exchange and again after each fault, each time with a new session; it reads before it writes, so
    writes cannot pile up in a PLC that stands still. The old session is closed, however late the PLC gets to that, but not waited
    for: small PLCs have one or few. Variables of one call are written one after the other, so a PLC may
    see half of them: numbers go first and ``result_valid`` last (and first when it goes off), bits are read before numbers.

    Raises:
        BadInput: the url, the node pattern, certificate or key cannot be used, or one is missing.
        MissingExtra: asyncua is not installed.
    """

    settings = OpcUaClientSettings

    def __init__(self, settings: OpcUaClientSettings) -> None:
        url = settings.url
        _check_url(url)
        self._ua = asyncua("ua")
        self._url = url
        self.name = self._name = f"the PLC at {urlparse(url).netloc}"
        self._tags = tags(settings.node, settings.nodes)
        self._threshold = None if settings.threshold is None else settings.threshold.node
        for tag in (*self._tags.values(), *([self._threshold] if self._threshold is not None else ())):
            self._node_id(tag, 0)
        self._policy, self._identity, self._peer = _security(
            settings.security, settings.certificate, settings.key, settings.key_password, settings.server_certificate
        )
        self._user, self._password = settings.user, settings.password
        self._timeout_s, self._connect_timeout_s = settings.timeout_ms / 1000, settings.connect_timeout_ms / 1000
        self._client: Any = None
        self._connecting: asyncio.Task[Any] | None = None
        self._left: set[asyncio.Task[None]] = set()
        self._securing = self._up = self._has_session = False
        self._ids: dict[tuple[Direction, str], Any] = {}
        self._written: ToPlc | None = None
        self._unchanged = 0
        self._loop: LoopThread | None = LoopThread("opcua")

    def exchange(self, to_plc: ToPlc) -> FromPlc:
        return self._asked(lambda: self._swap(to_plc))

    def look(self) -> tuple[ToPlc | None, FromPlc]:
        own, seen = self._asked(self._look)
        self._unchanged = 0  # nothing was cleared
        if self._written is not None and own != to_plc_of(to_words(self._written)):
            self._written = None
        return own, seen

    def threshold(self) -> tuple[float, str] | None:
        """See :class:`edgead.runtime.plc.device.LookingLink`."""
        if self._threshold is None:
            return None
        node = self._threshold
        value, fault = self._asked(lambda: self._read_threshold(node))
        if fault:
            raise LinkError(f"{self._name}: {node} {fault}", cause="refused", hint=_TAGS)
        return value, self._name

    async def _read_threshold(self, node: str) -> tuple[float, str]:
        """The number, or what is wrong with it: that is no fault of the connection, which stays."""
        try:
            node_id = await self._resolved(node)
        except LinkError as error:
            return 0.0, str(error)
        (data,) = await self._client.uaclient.read_attributes([node_id], self._ua.AttributeIds.Value)
        if data.StatusCode is not None and not data.StatusCode.is_good():
            return 0.0, f"cannot be read: {data.StatusCode.name}"
        value = data.Value.Value if data.Value is not None else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return 0.0, f"holds {type(value).__name__}, not a Float or Double"
        return float(value), ""

    def _asked(self, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        if self._loop is None:
            raise LinkError(f"{self._name} is closed", cause="closed")
        return self._loop.run(self._exchange(ask), self._timeout_s + self._connect_timeout_s + CLOSE_S)

    def close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.run(self._leave(), 3 * CLOSE_S)
            loop.close()

    async def _exchange(self, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Connect if need be, and ask; after a fault the connection is gone."""
        try:
            if self._client is None:
                await self._connect()
            return await asyncio.wait_for(ask(), self._timeout_s)
        except EdgeadError:
            await self._drop()
            raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - asyncua cancels requests of a broken connection
            told = self._explained(error)
            await self._drop()
            raise told from None  # asyncua's texts may show what was sent

    async def _connect(self) -> None:
        identity, self._securing = self._identity, False
        for known in (identity.certificate if identity else None, self._peer):
            problem = known.problem() if known else ""
            if problem:
                raise LinkError(problem, cause="certificate", hint="put a new one in its place, here and in the PLC")
        if len(self._left) >= MOST_LEFT:
            text = f"{self._name} has not closed {len(self._left)} sessions yet that were left after faults"
            raise LinkError(text, cause="timeout", hint=SLOW)
        client = asyncua("").Client(self._url, timeout=self._connect_timeout_s + SESSION_S)
        self._client = client
        client.session_timeout = SESSION_S * 1000
        client.name = client.description = "edgead"
        if identity is not None and self._peer is not None:
            await self._secure(client, identity, self._peer)
        if self._user is not None:
            client.set_user(self._user)
            client.set_password(self._password or "")
        greet = client.send_hello

        async def greeted() -> None:
            await greet()
            self._securing = identity is not None

        create = client.create_session

        async def created() -> Any:
            self._securing = False
            self._has_session = True  # from the request on: the answer may be what does not come
            return await create()

        client.send_hello, client.create_session = greeted, created
        until = asyncio.get_running_loop().time() + self._connect_timeout_s
        self._connecting = asyncio.ensure_future(client.connect())
        done, _ = await asyncio.wait({self._connecting}, timeout=self._connect_timeout_s)
        if not done:
            raise asyncio.TimeoutError
        self._connecting.result()
        self._connecting, self._securing = None, False
        await asyncio.wait_for(self._begin(), max(until - asyncio.get_running_loop().time(), 0.001))

    async def _begin(self) -> None:
        self._ids = {place: await self._resolved(tag) for place, tag in self._tags.items()}
        await self._read()  # it lives: no write is left behind in the buffer of one that does not
        self._up = True

    async def _secure(self, client: Any, identity: Identity, peer: Certificate) -> None:
        policies, crypto = asyncua("crypto.security_policies"), asyncua("crypto.uacrypto")
        if identity.certificate.uri:
            client.application_uri = identity.certificate.uri
        await client.set_security(
            getattr(policies, f"SecurityPolicy{self._policy}"),
            crypto.CertProperties(identity.certificate.der, "der"),
            crypto.CertProperties(identity.key_pem, "pem"),
            server_certificate=crypto.CertProperties(peer.der, "der"),
            mode=self._ua.MessageSecurityMode.SignAndEncrypt,
        )

    async def _resolved(self, tag: str) -> Any:
        if not tag.startswith("nsu="):
            return self._node_id(tag, 0)
        uri = tag[4:].partition(";")[0]
        try:
            return self._node_id(tag, await self._client.get_namespace_index(uri))
        except ValueError as error:
            raise LinkError(f"{self._name} has no namespace {uri}", cause="refused", hint=_TAGS) from error

    def _node_id(self, tag: str, index: int) -> Any:
        text = f"ns={index};{tag.partition(';')[2]}" if tag.startswith("nsu=") else tag
        try:
            return self._ua.NodeId.from_string(text)
        except Exception as error:  # asyncua raises several kinds
            raise BadInput(f"{tag} is not a node id", hint='e.g. ns=3;s="edgead"."to_plc"."ready"') from error

    async def _swap(self, to_plc: ToPlc) -> FromPlc:
        self._unchanged += 1
        if to_plc != self._written or self._unchanged >= REFRESH_EXCHANGES:
            before, self._written = self._written, None
            await self._write(to_plc, falling=before is not None and before.result_valid and not to_plc.result_valid)
            self._written, self._unchanged = to_plc, 0
        return await self._read()

    async def _write(self, to_plc: ToPlc, *, falling: bool) -> None:
        order = write_order(falling=falling)
        shown = to_plc_of(to_words(to_plc))  # in the ranges that the table's types have
        data = [self._ua.DataValue(self._ua.Variant(getattr(shown, s.name), self._type(s))) for s in order]
        results = await self._client.uaclient.write_attributes([self._ids[s.direction, s.name] for s in order], data)
        for signal, status in zip(order, results, strict=True):
            if not status.is_good():
                raise self._refused(signal, "written", status)

    async def _read(self) -> FromPlc:
        order = signals(Direction.FROM_PLC)
        ids = [self._ids[s.direction, s.name] for s in order]
        return self._from_plc(await self._client.uaclient.read_attributes(ids, self._ua.AttributeIds.Value))

    async def _look(self) -> tuple[ToPlc | None, FromPlc]:
        """Both blocks by one service call; None for the first when the PLC does not let it be read."""
        own, theirs = signals(Direction.TO_PLC), signals(Direction.FROM_PLC)
        ids = [self._ids[s.direction, s.name] for s in (*own, *theirs)]
        found = await self._client.uaclient.read_attributes(ids, self._ua.AttributeIds.Value)
        if any(data.StatusCode is not None and not data.StatusCode.is_good() for data in found[: len(own)]):
            return None, self._from_plc(found[len(own) :])
        values: dict[str, Any] = {}
        for signal, data in zip(own, found, strict=False):
            value = (data.Value.Value if data.Value is not None else None) or 0  # nothing: never written
            if not isinstance(value, (int, float)):
                raise self._holds(signal, type(value).__name__)
            values[signal.name] = value
        return ToPlc(**values), self._from_plc(found[len(own) :])

    def _from_plc(self, found: list[Any]) -> FromPlc:
        order = signals(Direction.FROM_PLC)
        values: dict[str, Any] = {}
        for signal, data in zip(order, found, strict=True):
            if data.StatusCode is not None and not data.StatusCode.is_good():
                raise self._refused(signal, "read", data.StatusCode)
            value = data.Value.Value if data.Value is not None else None
            if not isinstance(value, int):
                raise self._holds(signal, "nothing" if value is None else type(value).__name__)
            values[signal.name] = (
                bool(value) if signal.type == "bool" else value & (0xFFFF if signal.type == "u16" else 0xFFFFFFFF)
            )
        return FromPlc(**values)

    def _type(self, signal: Signal) -> Any:
        kinds = self._ua.VariantType
        return {"bool": kinds.Boolean, "u16": kinds.UInt16, "u32": kinds.UInt32, "f32": kinds.Float}[signal.type]

    def _refused(self, signal: Signal, done: str, status: Any) -> LinkError:
        node = self._tags[signal.direction, signal.name]
        return LinkError(f"{self._name}: {_tag(signal)} ({node}) cannot be {done}: {status.name}", cause="refused", hint=_TAGS)

    def _holds(self, signal: Signal, kind: str) -> LinkError:
        return LinkError(f"{self._name}: {_tag(signal)} holds {kind}, not a {signal.type}", cause="refused", hint=_TAGS)

    def _explained(self, error: BaseException) -> LinkError:
        code = type(error).__name__
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            if self._securing:
                text = f"{self._name} greets, but does not answer our encrypted request"
                return LinkError(text, cause="certificate", hint=_CERTIFICATES)
            limit = f"{1000 * self._timeout_s:g} ms (timeout_ms)" if self._up else f"{1000 * self._connect_timeout_s:g} ms"
            limit += "" if self._up else " (connect_timeout_ms)"
            return LinkError(f"{self._name} does not answer within {limit}", cause="timeout", hint=SLOW)
        if code == "BadTooManySessions":
            text = f"{self._name} has no session left for us ({code})"
            return LinkError(
                text, cause="refused", hint="give it more sessions, or close those of others (HMI, engineering tool)"
            )
        if isinstance(error, OSError) and not self._up:
            text = f"{self._name} does not accept a connection: {error.strerror or code}"
            return LinkError(text, cause="connect", hint="check its address and the network")
        if code in _BAD_LOGIN:
            return LinkError(f"{self._name} rejects user or password ({code})", cause="login", hint="check both in the PLC")
        if code.startswith("BadCertificate") or code in ("BadSecurityChecksFailed", "InvalidSignature", "InvalidTag"):
            return LinkError(f"{self._name} rejects the certificate ({code})", cause="certificate", hint=_CERTIFICATES)
        if "No matching endpoints" in str(error):
            return LinkError(
                f"{self._name} has no endpoint for security {self._policy}", cause="refused", hint="look at the PLC's"
            )
        if isinstance(error, self._ua.UaStatusCodeError) and code not in _CUT:
            return LinkError(f"{self._name} refuses ({code})", cause="refused", hint=_TAGS)
        return LinkError(f"{self._name} broke the connection ({code})", cause="connect", hint=_CUT_HINT)

    async def _drop(self) -> None:
        """Away with the connection, without waiting for the PLC."""
        client, connecting, has_session = self._client, self._connecting, self._has_session
        self._client = self._connecting = self._written = None
        self._up = self._has_session = False
        if client is None:
            return
        if has_session:
            left = asyncio.ensure_future(self._give_back(client, connecting))
            self._left.add(left)
            left.add_done_callback(self._left.discard)
            await asyncio.sleep(0)  # the request goes out before anything else
            return
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait({connecting}, timeout=CLOSE_S)
        client.disconnect_socket()
        await asyncio.sleep(0)

    async def _give_back(self, client: Any, connecting: asyncio.Task[Any] | None) -> None:
        """Close a session that we have left. Its connection stays until the PLC has answered, for as long as it would keep the
        session otherwise: a socket that is closed before is reset by what the PLC still sends, and the request with it."""

        async def closed() -> None:
            if connecting is not None:
                await connecting  # until we know which session it is
            await client.close_session()
            await client.close_secure_channel()

        try:
            await asyncio.wait_for(closed(), SESSION_S)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - then the session ends by itself
            logging.getLogger("edgead.plc").debug("%s: closing a session: %s", self._name, type(error).__name__)
        finally:
            client.disconnect_socket()

    async def _leave(self) -> None:
        """Give the session back when the PLC still listens."""
        if self._client is not None:
            try:
                await asyncio.wait_for(self._client.disconnect(), CLOSE_S)
                self._has_session = False
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the session ends by itself
                logging.getLogger("edgead.plc").debug("%s: closing: %s", self._name, type(error).__name__)
        await self._drop()
        if self._left:
            await asyncio.wait(self._left, timeout=CLOSE_S)


_TAGS = "check the node ids, their types and that edgead may write (plc/opcua.md of `edgead deploy-files`)"
_CERTIFICATES = "the PLC must trust our certificate, and server_certificate must be the PLC's own, for this security policy"
_CUT_HINT = "check the network; a PLC that does not trust our certificate closes the connection as well"


def tags(node: str = NODE, nodes: Mapping[str, str] | None = None) -> dict[tuple[Direction, str], str]:
    """The node id of each signal, by direction and name. Raises BadInput for a pattern or a table that does not do."""
    known = {f"{s.direction.value}.{s.name}": s for s in SIGNALS}
    table = dict(nodes or {})
    wrong = sorted(set(table) - set(known))
    if wrong:
        raise BadInput(f"there is no signal {wrong[0]!r}", hint=f"signals are {', '.join(known)}")
    if "{signal}" not in node or "{block}" not in node:
        raise BadInput(f"the node pattern {node!r} needs {{block}} and {{signal}}", hint=f"e.g. {NODE}")
    made = {
        (s.direction, s.name): table.get(place, node.replace("{block}", s.direction.value).replace("{signal}", s.name))
        for place, s in known.items()
    }
    if len(set(made.values())) < len(made):
        raise BadInput("two signals have the same node id")
    return made


def write_order(*, falling: bool) -> tuple[Signal, ...]:
    """In which order the station's variables are written: a half-written block never says more than the whole one.

    `falling`: result_valid goes off.
    """
    bits_last = sorted(signals(Direction.TO_PLC), key=lambda s: (s.type == "bool", s.name == "result_valid"))
    return tuple(reversed(bits_last) if falling else bits_last)


def _security(
    security: Security,
    certificate: Path | None,
    key: Path | None,
    key_password: str | None,
    server_certificate: Path | None,
) -> tuple[Security, Identity | None, Certificate | None]:
    if security not in ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "none"):
        raise BadInput(f"unknown security {security!r}", hint="Basic256Sha256, Aes128Sha256RsaOaep, Aes256Sha256RsaPss or none")
    if security == "none":
        return security, None, None
    if certificate is None or key is None or server_certificate is None:
        raise BadInput(
            "an encrypted connection needs certificate, key and server_certificate",
            hint="the PLC's own is exported by its engineering tool; say security: none to send everything in the clear",
        )
    return security, read_identity(certificate, key, key_password), read_certificate(server_certificate)


def _check_url(url: str) -> None:
    parts = urlparse(url)
    try:
        good = parts.scheme == "opc.tcp" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise BadInput("the address of an OPC UA server is opc.tcp://HOST:PORT/PATH")
    if "@" in parts.netloc:
        raise BadInput("an OPC UA address carries no user or password", hint="give user and password by themselves")


def _tag(signal: Signal) -> str:
    return f"{signal.direction.value}.{signal.name}"


def asyncua(module: str) -> Any:
    """A module of asyncua, which then keeps quiet: faults are counted and told by the device, and keys stay out of logs."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    return require(f"asyncua.{module}" if module else "asyncua", extra="opcua", why="OPC UA")

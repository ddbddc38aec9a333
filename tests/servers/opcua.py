"""A PLC as a process of its own: FakePlc's program over the variables of an OPC UA server, by asyncua.

``opcua.py PORT LOG`` with the options of program.py prints "ready". The folder $EDGEAD_TEST_KEYS holds plc.pem and plc.key, its
own, and trusted.pem, the only client certificate that it trusts. It is entered by user and password alone, encrypted alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from datetime import datetime, timezone
from pathlib import Path

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.uaprocessor import UaProcessor
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edgead.runtime.plc.opcua import tags
from edgead.runtime.plc.signals import SIGNALS, Direction, ToPlc, signals
from tests.servers.opcua_plc import PASSWORD, USER
from tests.servers.program import Program, parse

KINDS = {"bool": ua.VariantType.Boolean, "u16": ua.VariantType.UInt16, "u32": ua.VariantType.UInt32, "f32": ua.VariantType.Float}


class Users:
    def get_user(self, iserver, username=None, password=None, certificate=None):  # type: ignore[no-untyped-def]
        return User(role=UserRole.User) if (username, password) == (USER, PASSWORD) else None


class Variables:
    """The server's variables as the blocks of a program."""

    def __init__(self, server: Server, program: Program) -> None:
        self.space, self.program = server.iserver.aspace, program
        self.ids = {place: ua.NodeId.from_string(tag) for place, tag in tags().items()}

    async def add(self, server: Server) -> None:
        folder = await server.nodes.objects.add_object(2, "edgead")
        for signal in SIGNALS:
            node_id = self.ids[signal.direction, signal.name]
            zero = ua.Variant(False if signal.type == "bool" else 0, KINDS[signal.type])
            name = f"{signal.direction.value}.{signal.name}"
            node = await folder.add_variable(node_id, ua.QualifiedName(name, 2), zero, zero.VariantType)
            if signal.direction is Direction.TO_PLC:
                await node.set_writable()

        if self.program.threshold is not None:
            place = ua.NodeId.from_string("ns=2;s=edgead.threshold"), ua.QualifiedName("threshold", 2)
            await folder.add_variable(*place, ua.Variant(self.program.threshold, ua.VariantType.Double), ua.VariantType.Double)

    async def cycle(self) -> None:
        values = {s.name: self.value(Direction.TO_PLC, s.name) for s in signals(Direction.TO_PLC)}
        seen = self.program.scan(ToPlc(**values))
        for signal in signals(Direction.FROM_PLC):
            value = getattr(seen, signal.name)
            if value != self.value(Direction.FROM_PLC, signal.name):
                now = datetime.now(timezone.utc)
                data = ua.DataValue(ua.Variant(value, KINDS[signal.type]), SourceTimestamp=now, ServerTimestamp=now)
                await self.space.write_attribute_value(self.ids[signal.direction, signal.name], ua.AttributeIds.Value, data)

    def value(self, direction: Direction, name: str) -> object:
        return self.space.read_attribute_value(self.ids[direction, name], ua.AttributeIds.Value).Value.Value


def trusting(path: Path):  # type: ignore[no-untyped-def]
    """Whether a client's certificate is this one, and not expired."""
    trusted = x509.load_pem_x509_certificate(path.read_bytes())

    async def validate(certificate: x509.Certificate, _: ua.ApplicationDescription) -> None:
        if certificate.public_bytes(Encoding.DER) != trusted.public_bytes(Encoding.DER):
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)
        if certificate.not_valid_after_utc < datetime.now(timezone.utc):
            raise ServiceError(ua.StatusCodes.BadCertificateTimeInvalid)

    return validate


def slowly(server: Server, answer_s: float) -> None:
    """Every read and write takes so long."""
    session = type(server.iserver.isession)
    read, write = session.read, session.write

    async def slow_read(self, params):  # type: ignore[no-untyped-def]
        await asyncio.sleep(answer_s * self.external)
        return await read(self, params)

    async def slow_write(self, params):  # type: ignore[no-untyped-def]
        await asyncio.sleep(answer_s * self.external)
        return await write(self, params)

    session.read, session.write = slow_read, slow_write  # type: ignore[method-assign]


def few_sessions(server: Server, program: Program, most: int, create_s: float) -> None:
    """At most so many sessions (0: any number), each made in `create_s`; one whose connection is cut is never forgotten."""
    inside, session_class = server.iserver, type(server.iserver.isession)
    create, begin, end = inside.create_session, session_class.create_session, session_class.close_session
    held: set[object] = set()

    def made(name, **options):  # type: ignore[no-untyped-def]
        if len(held) >= most > 0:
            program.note(session="refused", open=len(held))
            raise ServiceError(ua.StatusCodes.BadTooManySessions)
        session = create(name, **options)
        held.add(session)
        program.note(session="new", open=len(held))
        return session

    async def begun(self, *arguments, **options):  # type: ignore[no-untyped-def]
        await asyncio.sleep(create_s * self.external)
        return await begin(self, *arguments, **options)

    async def closed(self, delete_subs=True):  # type: ignore[no-untyped-def]
        await end(self, delete_subs)
        if self in held:
            held.discard(self)
            program.note(session="closed", open=len(held))

    inside.create_session, session_class.create_session, session_class.close_session = made, begun, closed  # type: ignore[method-assign]
    UaProcessor._should_close_session_on_transport_loss = lambda self: False  # type: ignore[method-assign]


async def main(arguments: argparse.Namespace) -> None:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    server = Server(user_manager=Users())  # type: ignore[arg-type]
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{arguments.port}/plc")
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    server.set_identity_tokens([ua.UserNameIdentityToken])
    folder = Path(os.environ["EDGEAD_TEST_KEYS"])
    await server.load_certificate(folder / "plc.pem")
    await server.load_private_key(folder / "plc.key", format="pem")
    server.set_certificate_validator(trusting(folder / "trusted.pem"))
    await server.register_namespace("urn:test:plc")
    program = Program(arguments)
    variables = Variables(server, program)
    await variables.add(server)
    if arguments.answer_ms:
        slowly(server, arguments.answer_ms / 1000)
    few_sessions(server, program, arguments.sessions, arguments.create_ms / 1000)
    await server.start()
    print("ready", flush=True)
    while True:
        await variables.cycle()
        await asyncio.sleep(program.cycle_s)


if __name__ == "__main__":
    asyncio.run(main(parse()))

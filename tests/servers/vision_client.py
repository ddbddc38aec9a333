"""A client of any OPC 40100-1 vision system, as a process of its own. It imports nothing of edgead and knows no node of it.

``vision_client.py URL SERVER_CERTIFICATE CERTIFICATE KEY USER PASSWORD PART...`` finds the VisionSystem by its type, has each
part inspected by StartSingleJob, and prints one JSON object: states, events, results, and what the result management says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.crypto.uacrypto import CertProperties

URI = "http://opcfoundation.org/UA/MachineVision"
EVENTS = {"StateChangedEventType": 1018, "JobStartedEventType": 1013, "ReadyEventType": 1023, "ResultReadyEventType": 1024}


class Listener:
    def __init__(self) -> None:
        self.came: asyncio.Queue = asyncio.Queue()

    def event_notification(self, event):  # type: ignore[no-untyped-def]
        self.came.put_nowait(event)


async def find(client, index):  # type: ignore[no-untyped-def]
    """The first object below Objects whose type is VisionSystemType."""
    wanted = ua.NodeId(1003, index)
    folders = [client.nodes.objects]
    while folders:
        for child in await folders.pop(0).get_children(nodeclassmask=ua.NodeClass.Object):
            if await child.read_type_definition() == wanted:
                return child
            if child.nodeid.Identifier != ua.ObjectIds.Server:
                folders.append(child)
    raise SystemExit("there is no vision system")


async def inspect(client, index, parts):  # type: ignore[no-untyped-def]
    system = await find(client, index)
    machine = await system.get_child(f"{index}:VisionStateMachine")
    automatic = await machine.get_child(f"{index}:AutomaticModeStateMachine")
    results = await system.get_child(f"{index}:ResultManagement")
    listener, seen = Listener(), []
    subscription = await client.create_subscription(20, listener)
    kinds = [client.get_node(ua.NodeId(number, index)) for number in EVENTS.values()]
    await subscription.subscribe_events(system, kinds, queuesize=100)
    names = {ua.NodeId(number, index): name for name, number in EVENTS.items()}
    state = await automatic.get_child("0:CurrentState")
    while (await state.read_value()).Text != "Ready":
        await asyncio.sleep(0.02)
    said = {"type": (await (client.get_node(ua.NodeId(1003, index))).read_browse_name()).Name, "events": seen, "results": []}
    for part in parts:
        job, error = await automatic.call_method(
            f"{index}:StartSingleJob",
            ua.MeasIdDataType(Id="m"),
            ua.PartIdDataType(Id=part),
            ua.RecipeIdExternalDataType(),
            ua.ProductIdDataType(Id="product"),
            ua.Variant([], ua.VariantType.Variant),
        )
        result = None
        while not (result and seen and seen[-1] == "ReadyEventType"):
            event = await asyncio.wait_for(listener.came.get(), 20)
            seen.append(names[event.EventType])
            result = event if seen[-1] == "ResultReadyEventType" else result
        _handle, again, missing = await results.call_method(
            f"{index}:GetResultById", result.ResultId, ua.Variant(0, ua.VariantType.Int32)
        )
        said["results"].append(
            {
                "error": error,
                "same job": job.Id == result.JobId.Id == again.JobId.Id,
                "part": result.PartId.Id,
                "state": result.ResultState,
                "content": [item.Value for item in result.ResultContent],
                "again": [again.PartId.Id, [item.Value for item in again.ResultContent], missing],
            }
        )
    kept = await results.call_method(
        f"{index}:GetResultListFiltered",
        ua.Variant(0, ua.VariantType.Int32),
        ua.MeasIdDataType(),
        ua.PartIdDataType(Id=parts[-1]),
        ua.RecipeIdExternalDataType(),
        ua.RecipeIdInternalDataType(),
        ua.ConfigurationIdDataType(),
        ua.ConfigurationIdDataType(),
        ua.ProductIdDataType(),
        ua.JobIdDataType(),
        ua.Variant(10, ua.VariantType.UInt32),
        ua.Variant(0, ua.VariantType.UInt32),
        ua.Variant(0, ua.VariantType.Int32),
    )
    said["kept"] = [kept[0], kept[1], [result.PartId.Id for result in kept[3]], kept[4]]
    said["outer"] = (await (await machine.get_child("0:CurrentState")).read_value()).Text
    await subscription.delete()
    return said


async def main(url, server, certificate, key, user, password, *parts):  # type: ignore[no-untyped-def]
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    client = Client(url, timeout=60)
    client.application_uri = "urn:test:edgead"
    await client.set_security(SecurityPolicyBasic256Sha256, certificate, CertProperties(key, "pem"), server_certificate=server)
    client.set_user(user)
    client.set_password(password)
    async with client:
        index = await client.get_namespace_index(URI)
        ua.basetype_by_datatype[ua.NodeId(3017, index)] = "TrimmedString"  # asyncua takes it for the one of namespace 0
        await client.load_data_type_definitions()
        print(json.dumps(await inspect(client, index, parts)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

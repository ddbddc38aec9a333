"""The address space of OPC 40100-1 on an asyncua server: types under the standard's own node ids, and one VisionSystem."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from edgead.runtime.plc.opcua import asyncua
from edgead.runtime.records.wallclock import utc_now
from edgead.runtime.vision import model as model
from edgead.runtime.vision.model import Field, Struct
from edgead.runtime.vision.states import Step

HAS_COMPONENT, HAS_PROPERTY, HAS_EVENT_SOURCE, HAS_NOTIFIER = 47, 46, 36, 48
BASE_VARIABLE, PROPERTY, STATE_TYPE, TRANSITION_TYPE = 63, 68, 2307, 2310
STATE_VARIABLE, TRANSITION_VARIABLE, SERVER_OBJECT, OBJECTS, STATE_NUMBER = 2760, 2767, 2253, 85, "StateNumber"
SEVERITY = 200

Handler = Callable[..., Awaitable[Sequence[Any] | str]]
"""Gets the values of the input arguments; gives those of the output arguments, or the name of a status code."""

_KINDS = {
    model.STRING: "String",
    model.TRIMMED_STRING: "String",
    model.BOOLEAN: "Boolean",
    model.INT32: "Int32",
    model.RESULT_STATE: "Int32",
    model.TRI_STATE: "Int32",
    model.UINT32: "UInt32",
    model.HANDLE: "UInt32",
    model.BYTES: "ByteString",
    model.TIME: "DateTime",
    model.DURATION: "Double",
    model.TEXT: "LocalizedText",
    model.ANY: "Variant",
}


class Space:
    """Builds the nodes and keeps them up to date. All of it runs on the server's loop.

    Args:
        server: an initialised, not yet started asyncua server.
        name: browse name of the VisionSystem, in the namespace `uri`.
    """

    def __init__(self, server: Any, name: str, uri: str) -> None:
        self._server, self._name, self._uri = server, name, uri
        self._ua = asyncua("ua")
        self._session = server.iserver.isession
        self._index = self._own = 0
        self._generators: dict[str, Any] = {}
        self._variables: dict[str, Any] = {}
        self._system: Any = None

    async def build(self, handlers: Mapping[str, Handler]) -> None:
        """Make all nodes; each method of the standard calls the handler of its name."""
        self._index = await self._server.register_namespace(model.URI)
        self._own = await self._server.register_namespace(self._uri)
        await self._data_types()
        for name, (number, parent) in model.OBJECT_TYPES.items():
            await self._server.get_node(self._ua.NodeId(parent)).add_object_type(self._standard(number), self._qualified(name))
        await self._states()
        await self._methods(handlers)
        await self._instance(handlers)
        await self._events()

    def make(self, struct: int, **fields: Any) -> Any:
        """A structure of the standard."""
        encoding = next(s.encoding for s in model.STRUCTS if s.id == struct)
        return self._ua.extension_objects_by_typeid[self._standard(encoding)](**fields)

    def variant(self, value: Any, kind: str) -> Any:
        return self._ua.Variant(value, getattr(self._ua.VariantType, kind))

    async def configure(self, configuration: Any) -> None:
        """Show the active configuration."""
        await self._write("ActiveConfiguration", configuration, "ExtensionObject")

    async def show(self, outer: str, inner: str, step: Step | None) -> None:
        """Put the states, and the last transition, into the state machines' variables."""
        for machine, state in ((model.OUTER, outer), (model.INNER, inner)):
            number = model.STATES[state][2] if state else 0
            await self._write(f"{machine}.CurrentState", self._text(state), "LocalizedText")
            await self._write(f"{machine}.CurrentState.Id", self._state_id(state), "NodeId")
            await self._write(f"{machine}.CurrentState.Number", number, "UInt32")
        if step is not None:
            machine = model.STATES[step.before][0]
            number, digits = model.TRANSITIONS[step.transition]
            await self._write(f"{machine}.LastTransition", self._text(step.transition), "LocalizedText")
            await self._write(f"{machine}.LastTransition.Id", self._standard(number), "NodeId")
            await self._write(f"{machine}.LastTransition.Number", digits, "UInt32")

    async def changed(self, step: Step) -> None:
        """Fire the event of a transition."""
        values = {
            "FromState": self._text(step.before),
            "FromState/Id": self._state_id(step.before),
            "ToState": self._text(step.after),
            "ToState/Id": self._state_id(step.after),
            "Transition": self._text(step.transition),
            "Transition/Id": self._standard(model.TRANSITIONS[step.transition][0]),
        }
        await self.fire("StateChangedEventType", f"{step.before} to {step.after}", values)

    async def fire(self, name: str, message: str, values: Mapping[str, Any]) -> None:
        """Fire an event of the standard, on the VisionSystem and on the Server object."""
        event = copy.copy(self._generators[name].event)
        ids = {key: self._ua.VariantType.NodeId for key in values if key.endswith("/Id")}
        event.data_types = {**event.data_types, **ids}  # asyncua leaves them open
        for key, value in values.items():
            setattr(event, key, value)
        event.Message, event.Severity = self._text(message), SEVERITY
        event.Time = event.ReceiveTime = utc_now()
        for emitter in (self._system, self._ua.NodeId(SERVER_OBJECT)):
            event.EventId, event.emitting_node = uuid.uuid4().bytes, emitter
            await self._session.subscription_service.trigger_event(event)

    # Types

    async def _data_types(self) -> None:
        ua, nodes = self._ua, self._server.nodes
        for number, name, parent in model.SIMPLE_TYPES:
            await self._server.get_node(ua.NodeId(parent)).add_data_type(self._standard(number), self._qualified(name))
            if hasattr(ua, name):  # asyncua would take it for the type of that name in namespace 0 (TrimmedString)
                ua.basetype_by_datatype[self._standard(number)] = name
        encoding = asyncua("common.manage_nodes").create_encoding
        for struct in model.STRUCTS:
            node = await nodes.base_structure_type.add_data_type(self._standard(struct.id), self._qualified(struct.name))
            await encoding(node, self._standard(struct.encoding), ua.QualifiedName("Default Binary", 0))
            await node.write_data_type_definition(self._definition(struct))
        await self._server.load_data_type_definitions()

    def _definition(self, struct: Struct) -> Any:
        ua = self._ua
        definition = ua.StructureDefinition()
        optional = any(field.optional for field in struct.fields)
        definition.StructureType = ua.StructureType.StructureWithOptionalFields if optional else ua.StructureType.Structure
        definition.BaseDataType = ua.NodeId(22)
        definition.DefaultEncodingId = self._standard(struct.encoding)
        new_field = asyncua("common.structures104").new_struct_field
        definition.Fields = [new_field(f.name, self._type(f), array=f.array, optional=f.optional) for f in struct.fields]
        return definition

    async def _states(self) -> None:
        places = {
            name: (machine, number, digits, STATE_TYPE, STATE_NUMBER) for name, (machine, number, digits) in model.STATES.items()
        }
        for name, (number, digits) in model.TRANSITIONS.items():
            machine = next(model.STATES[s][0] for s in model.STATES if name.startswith(f"{s}To"))
            places[name] = (machine, number, digits, TRANSITION_TYPE, "TransitionNumber")
        for name, (machine, number, digits, kind, label) in places.items():
            owner = self._standard(model.OBJECT_TYPES[machine][0])
            node = await self._object(owner, self._standard(number), self._qualified(name), self._ua.NodeId(kind))
            await self._variable(node, self._fresh(), self._ua.QualifiedName(label, 0), digits, "UInt32", PROPERTY)

    async def _methods(self, handlers: Mapping[str, Handler]) -> None:
        for method in model.METHODS:
            owner = self._server.get_node(self._standard(model.OBJECT_TYPES[method.owner][0]))
            node = await self._method(owner, self._standard(method.id), method, handlers[method.name])
            await node.set_modelling_rule(method.name != "SelectModeAutomatic")

    async def _method(self, owner: Any, node_id: Any, method: model.Method, handler: Handler) -> Any:
        ua = self._ua

        async def call(_parent: Any, *inputs: Any) -> Any:
            if len(inputs) != len(method.inputs):
                missing = len(inputs) < len(method.inputs)
                codes = ua.StatusCodes
                return ua.StatusCode(codes.BadArgumentsMissing if missing else codes.BadTooManyArguments)
            given = await handler(*(variant.Value for variant in inputs))
            if isinstance(given, str):
                return ua.StatusCode(getattr(ua.StatusCodes, given))
            return [self.variant(v, _KINDS.get(f.type, "ExtensionObject")) for f, v in zip(method.outputs, given, strict=True)]

        node = await owner.add_method(node_id, self._qualified(method.name), call)
        for name, fields in (("InputArguments", method.inputs), ("OutputArguments", method.outputs)):
            if fields:
                described = [self._argument(field) for field in fields]
                kind = self._ua.NodeId(self._ua.ObjectIds.Argument)
                qualified = self._ua.QualifiedName(name, 0)
                await self._variable(node.nodeid, self._fresh(), qualified, described, "ExtensionObject", PROPERTY, kind, 1)
        return node

    def _argument(self, field: Field) -> Any:
        argument = self._ua.Argument()
        argument.Name, argument.DataType = field.name, self._type(field)
        argument.ValueRank, argument.ArrayDimensions = (1, [0]) if field.array else (-1, [])
        return argument

    async def _events(self) -> None:
        for name, (number, parent, properties) in model.EVENTS.items():
            owner = await self._server.get_node(self._ua.NodeId(parent)).add_object_type(
                self._standard(number), self._qualified(name)
            )
            for field in properties:
                kind = _KINDS.get(field.type, "ExtensionObject")
                rank = 1 if field.array else -1
                node = self._server.get_node(
                    await self._variable(
                        owner.nodeid, self._fresh(), self._qualified(field.name), None, kind, PROPERTY, self._type(field), rank
                    )
                )
                await node.set_modelling_rule(not field.optional)
            generator = await self._server.get_event_generator(owner, self._system)
            for field in properties:
                kind = _KINDS.get(field.type, "ExtensionObject")
                generator.event.data_types[field.name] = getattr(self._ua.VariantType, kind)
            self._generators[name] = generator
        server = self._server.get_node(self._ua.NodeId(SERVER_OBJECT))
        await server.add_reference(self._system, self._ua.NodeId(HAS_NOTIFIER), True)

    # The instance

    async def _instance(self, handlers: Mapping[str, Handler]) -> None:
        ua = self._ua
        kinds = {name: self._standard(number) for name, (number, _) in model.OBJECT_TYPES.items()}
        own = ua.QualifiedName(self._name, self._own)
        self._system = await self._object(ua.NodeId(OBJECTS), self._fresh(), own, kinds["VisionSystemType"])
        parts = {"VisionSystemType": self._system}
        for kind in ("VisionStateMachineType", "ResultManagementType", "RecipeManagementType", "ConfigurationManagementType"):
            name = self._qualified(kind.removesuffix("Type"))
            parts[kind] = await self._object(self._system, self._fresh(), name, kinds[kind])
        inner = self._qualified("AutomaticModeStateMachine")
        parts[model.INNER] = await self._object(parts[model.OUTER], self._fresh(), inner, kinds[model.INNER])
        for machine in (model.OUTER, model.INNER):
            await self._machine(parts[machine], machine)
        for method in model.METHODS:
            await self._method(self._server.get_node(parts[method.owner]), self._fresh(), method, handlers[method.name])
        name = self._qualified("ActiveConfiguration")
        kind = self._standard(model.CONFIGURATION)
        owner = parts["ConfigurationManagementType"]
        await self._kept(owner, "ActiveConfiguration", name, None, "ExtensionObject", BASE_VARIABLE, kind)

    async def _machine(self, owner: Any, machine: str) -> None:
        nothing = self._ua.NodeId()
        for name, kind in (("CurrentState", STATE_VARIABLE), ("LastTransition", TRANSITION_VARIABLE)):
            label = f"{machine}.{name}"
            node = await self._kept(owner, label, self._ua.QualifiedName(name, 0), self._text(""), "LocalizedText", kind)
            for detail, value, kind_name in (("Id", nothing, "NodeId"), ("Number", 0, "UInt32")):
                qualified = self._ua.QualifiedName(detail, 0)
                await self._kept(node, f"{label}.{detail}", qualified, value, kind_name, PROPERTY)

    async def _kept(self, owner: Any, label: str, name: Any, value: Any, kind: str, what: int, data_type: Any = None) -> Any:
        node = await self._variable(owner, self._fresh(), name, value, kind, what, data_type)
        self._variables[label] = node
        return node

    # Single nodes

    def _standard(self, number: int) -> Any:
        return self._ua.NodeId(number, self._index)

    def _qualified(self, name: str) -> Any:
        return self._ua.QualifiedName(name, self._index)

    def _fresh(self) -> Any:
        """A node id of our own."""
        return self._ua.NodeId(0, self._own)

    def _type(self, field: Field) -> Any:
        return self._standard(field.type) if field.type > 3000 else self._ua.NodeId(field.type)

    def _text(self, text: str) -> Any:
        return self._ua.LocalizedText(text, "en")

    def _state_id(self, state: str) -> Any:
        return self._standard(model.STATES[state][1]) if state else self._ua.NodeId()

    async def _object(self, owner: Any, node_id: Any, name: Any, kind: Any) -> Any:
        return await self._add(owner, node_id, name, kind, HAS_COMPONENT, self._ua.NodeClass.Object, self._ua.ObjectAttributes())

    async def _variable(
        self, owner: Any, node_id: Any, name: Any, value: Any, kind: str, what: int, data_type: Any = None, rank: int = -1
    ) -> Any:
        attributes = self._ua.VariableAttributes()
        attributes.Value = self.variant(value, kind) if value is not None else self._ua.Variant()
        attributes.DataType = data_type or self._ua.NodeId(getattr(self._ua.VariantType, kind).value)
        attributes.ValueRank = rank
        reference = HAS_PROPERTY if what == PROPERTY else HAS_COMPONENT
        return await self._add(owner, node_id, name, self._ua.NodeId(what), reference, self._ua.NodeClass.Variable, attributes)

    async def _add(self, owner: Any, node_id: Any, name: Any, kind: Any, reference: int, node_class: Any, attributes: Any) -> Any:
        item = self._ua.AddNodesItem()
        item.ParentNodeId, item.ReferenceTypeId, item.RequestedNewNodeId = owner, self._ua.NodeId(reference), node_id
        item.BrowseName, item.NodeClass, item.TypeDefinition = name, node_class, kind
        attributes.DisplayName = self._ua.LocalizedText(name.Name)
        attributes.Description = self._ua.LocalizedText("")
        item.NodeAttributes = attributes
        result = (await self._session.add_nodes([item]))[0]
        result.StatusCode.check()
        return result.AddedNodeId

    async def _write(self, label: str, value: Any, kind: str) -> None:
        await self._server.get_node(self._variables[label]).write_value(self.variant(value, kind))

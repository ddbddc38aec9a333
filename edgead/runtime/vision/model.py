"""Names and node ids of OPC 40100-1 (OPC UA for Machine Vision, part 1, 1.0), as far as edgead's server has them. Plain data.

Numbers are identifiers in the namespace :data:`URI`, as the OPC Foundation's NodeIds.csv has them; those of types are the same
on every server, so that clients made for the standard find them.
"""

from __future__ import annotations

from dataclasses import dataclass

URI = "http://opcfoundation.org/UA/MachineVision"

STRING, BOOLEAN, INT32, UINT32, BYTES, TIME, DURATION, TEXT, ANY = 12, 1, 6, 7, 15, 294, 290, 21, 24
"""Types of OPC UA itself (namespace 0)."""

TRIMMED_STRING, HANDLE, RESULT_STATE, TRI_STATE = 3017, 3018, 3009, 3014
CONFIGURATION_ID, RECIPE_EXTERNAL, RECIPE_INTERNAL, CONFIGURATION = 3008, 3002, 3013, 3007
JOB_ID, MEAS_ID, PART_ID, TIMES, PRODUCT_ID, RESULT_ID, RESULT = 3016, 3015, 3004, 3005, 3003, 3021, 3006

SIMPLE_TYPES = (
    (TRIMMED_STRING, "TrimmedString", STRING),
    (HANDLE, "Handle", UINT32),
    (RESULT_STATE, "ResultStateDataType", INT32),
)
"""Identifier, name, and what it is a subtype of."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a structure, an argument of a method or a property of an event. `type` above 3000 is one of the standard's."""

    name: str
    type: int
    optional: bool = False
    array: bool = False


@dataclass(frozen=True, slots=True)
class Struct:
    """A data type with its binary encoding."""

    id: int
    name: str
    encoding: int
    fields: tuple[Field, ...]


def _f(name: str, kind: int) -> Field:
    return Field(name, kind)


def _o(name: str, kind: int, *, array: bool = False) -> Field:
    return Field(name, kind, optional=True, array=array)


_BINARY_ID = (
    _f("Id", TRIMMED_STRING),
    _o("Version", TRIMMED_STRING),
    _o("Hash", BYTES),
    _o("HashAlgorithm", STRING),
    _o("Description", TEXT),
)
_NAMED = (_f("Id", TRIMMED_STRING), _o("Description", TEXT))

_RESULT = (
    _f("ResultId", RESULT_ID),
    _o("HasTransferableDataOnFile", BOOLEAN),
    _f("IsPartial", BOOLEAN),
    _o("IsSimulated", BOOLEAN),
    _f("ResultState", RESULT_STATE),
    _o("MeasId", MEAS_ID),
    _o("PartId", PART_ID),
    _o("ExternalRecipeId", RECIPE_EXTERNAL),
    _f("InternalRecipeId", RECIPE_INTERNAL),
    _o("ProductId", PRODUCT_ID),
    _o("ExternalConfigurationId", CONFIGURATION_ID),
    _f("InternalConfigurationId", CONFIGURATION_ID),
    _f("JobId", JOB_ID),
    _f("CreationTime", TIME),
    _o("ProcessingTimes", TIMES),
    _o("ResultContent", ANY, array=True),
)

STRUCTS = (  # each after those that it holds
    Struct(CONFIGURATION_ID, "ConfigurationIdDataType", 5090, _BINARY_ID),
    Struct(RECIPE_EXTERNAL, "RecipeIdExternalDataType", 5002, _BINARY_ID),
    Struct(RECIPE_INTERNAL, "RecipeIdInternalDataType", 5268, _BINARY_ID),
    Struct(JOB_ID, "JobIdDataType", 5008, (_f("Id", TRIMMED_STRING),)),
    Struct(MEAS_ID, "MeasIdDataType", 5006, _NAMED),
    Struct(PART_ID, "PartIdDataType", 5013, _NAMED),
    Struct(PRODUCT_ID, "ProductIdDataType", 5224, _NAMED),
    Struct(RESULT_ID, "ResultIdDataType", 5274, (_f("Id", TRIMMED_STRING),)),
    Struct(
        TIMES,
        "ProcessingTimesDataType",
        5016,
        (_f("StartTime", TIME), _f("EndTime", TIME), _o("AcquisitionDuration", DURATION), _o("ProcessingDuration", DURATION)),
    ),
    Struct(
        CONFIGURATION,
        "ConfigurationDataType",
        5088,
        (
            _o("HasTransferableDataOnFile", BOOLEAN),
            _o("ExternalId", CONFIGURATION_ID),
            _f("InternalId", CONFIGURATION_ID),
            _f("LastModified", TIME),
        ),
    ),
    Struct(RESULT, "ResultDataType", 5018, _RESULT),
)

COMPLETED, ABORTED, FAILED = 1, 3, 4
"""Values of ResultStateDataType."""

OBJECT_TYPES = {
    "VisionSystemType": (1003, 58),
    "ConfigurationManagementType": (1006, 58),
    "RecipeManagementType": (1004, 58),
    "ResultManagementType": (1007, 58),
    "VisionStateMachineType": (1017, 2771),
    "VisionAutomaticModeStateMachineType": (1021, 2771),
}
"""Identifier, and the supertype of namespace 0."""

_CAUSE = (_f("Cause", INT32), _f("CauseDescription", STRING))
_ERROR = (_f("Error", INT32),)
_START = (
    _f("MeasId", MEAS_ID),
    _f("PartId", PART_ID),
    _f("RecipeId", RECIPE_EXTERNAL),
    _f("ProductId", PRODUCT_ID),
    Field("Parameters", ANY, array=True),
)
_STARTED = (_f("JobId", JOB_ID), *_ERROR)
_LIST = (_f("MaxResults", UINT32), _f("StartIndex", UINT32), _f("Timeout", INT32))
_RECIPE = (_f("ExternalId", RECIPE_EXTERNAL), _f("InternalIdIn", RECIPE_INTERNAL))


def _listed(handle: str, name: str, kind: int) -> tuple[Field, ...]:
    head = (_f("IsComplete", BOOLEAN), _f("ResultCount", UINT32), _f(handle, HANDLE))
    return (*head, Field(name, kind, array=True), *_ERROR)


def _required(name: str) -> Field:
    return next(Field(f.name, f.type, array=f.array) for f in _RESULT if f.name == name)


@dataclass(frozen=True, slots=True)
class Method:
    """A method that the type `owner` declares under this identifier."""

    owner: str
    name: str
    id: int
    inputs: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = _ERROR


_FILTER = ("MeasId", "PartId", "ExternalRecipeId", "InternalRecipeId", "ExternalConfigurationId", "InternalConfigurationId")

METHODS = (
    Method("VisionStateMachineType", "Halt", 7094, _CAUSE),
    Method("VisionStateMachineType", "Reset", 7093, _CAUSE),
    Method("VisionStateMachineType", "SelectModeAutomatic", 7095),
    Method("VisionAutomaticModeStateMachineType", "StartSingleJob", 7098, _START, _STARTED),
    Method("VisionAutomaticModeStateMachineType", "StartContinuous", 7009, _START, _STARTED),
    Method("VisionAutomaticModeStateMachineType", "Stop", 7096, _CAUSE),
    Method("VisionAutomaticModeStateMachineType", "Abort", 7097, _CAUSE),
    Method(
        "ResultManagementType",
        "GetResultById",
        7026,
        (_f("ResultId", RESULT_ID), _f("Timeout", INT32)),
        (_f("ResultHandle", HANDLE), _f("Result", RESULT), *_ERROR),
    ),
    Method(
        "ResultManagementType",
        "GetResultComponentsById",
        7007,
        (_f("ResultId", RESULT_ID), _f("Timeout", INT32)),
        (
            _f("HasTransferableDataOnFile", BOOLEAN),
            _f("ResultHandle", HANDLE),
            *(_required(f.name) for f in _RESULT[2:]),
            *_ERROR,
        ),
    ),
    Method(
        "ResultManagementType",
        "GetResultListFiltered",
        7089,
        (_f("ResultState", RESULT_STATE), *(_required(name) for name in (*_FILTER, "ProductId", "JobId")), *_LIST),
        _listed("ResultHandle", "ResultList", RESULT),
    ),
    Method(
        "RecipeManagementType",
        "GetRecipeListFiltered",
        7014,
        (_f("ExternalId", RECIPE_EXTERNAL), _f("ProductId", PRODUCT_ID), _f("IsPrepared", TRI_STATE), *_LIST),
        _listed("RecipeHandle", "RecipeList", RECIPE_INTERNAL),
    ),
    Method(
        "RecipeManagementType",
        "PrepareRecipe",
        7015,
        _RECIPE,
        (_f("InternalIdOut", RECIPE_INTERNAL), _f("IsCompleted", BOOLEAN), *_ERROR),
    ),
    Method("RecipeManagementType", "UnprepareRecipe", 7055, _RECIPE, (_f("InternalIdOut", RECIPE_INTERNAL), *_ERROR)),
    Method("ConfigurationManagementType", "ActivateConfiguration", 7048, (_f("InternalId", CONFIGURATION_ID),)),
    Method(
        "ConfigurationManagementType",
        "GetConfigurationById",
        7041,
        (_f("InternalId", CONFIGURATION_ID), _f("Timeout", INT32)),
        (_f("ConfigurationHandle", HANDLE), _f("Configuration", CONFIGURATION), *_ERROR),
    ),
    Method(
        "ConfigurationManagementType",
        "GetConfigurationList",
        7045,
        _LIST,
        _listed("ConfigurationHandle", "ConfigurationList", CONFIGURATION),
    ),
)

OUTER = "VisionStateMachineType"
INNER = "VisionAutomaticModeStateMachineType"
STATES = {  # identifier and StateNumber, of the machine that has it
    "Preoperational": (OUTER, 5028, 1),
    "Halted": (OUTER, 5029, 2),
    "Error": (OUTER, 5030, 3),
    "Operational": (OUTER, 5031, 4),
    "Initialized": (INNER, 5056, 5),
    "Ready": (INNER, 5057, 6),
    "SingleExecution": (INNER, 5058, 7),
    "ContinuousExecution": (INNER, 5059, 8),
}

TRANSITIONS = {  # identifier and TransitionNumber: digits are from, to and cause (0 is by itself)
    "PreoperationalToHalted": (5032, 121),
    "PreoperationalToInitialized": (5035, 151),
    "PreoperationalToInitializedAuto": (5036, 150),
    "HaltedToPreoperational": (5037, 211),
    "ErrorToPreoperational": (5039, 311),
    "ErrorToPreoperationalAuto": (5040, 310),
    "ErrorToHalted": (5041, 321),
    "OperationalToPreoperational": (5047, 411),
    "OperationalToPreoperationalAuto": (5048, 410),
    "OperationalToHalted": (5049, 421),
    "OperationalToErrorAuto": (5051, 430),
    "InitializedToReadyRecipe": (5060, 561),
    "InitializedToReadyAuto": (5061, 560),
    "ReadyToInitializedRecipe": (5062, 651),
    "ReadyToSingleExecution": (5064, 671),
    "ReadyToContinuousExecution": (5066, 681),
    "SingleExecutionToReadyStop": (5068, 761),
    "SingleExecutionToReadyAbort": (5069, 762),
    "SingleExecutionToReadyAuto": (5070, 760),
    "ContinuousExecutionToReadyStop": (5071, 861),
    "ContinuousExecutionToReadyAbort": (5072, 862),
}

_JOB = (Field("JobId", JOB_ID),)
EVENTS = {
    "StateChangedEventType": (1018, 2311, ()),
    "JobStartedEventType": (1013, 2041, _JOB),
    "AcquisitionDoneEventType": (1025, 2041, _JOB),
    "ReadyEventType": (1023, 2041, _JOB),
    "RecipePreparedEventType": (1022, 2041, (_f("InternalId", RECIPE_INTERNAL),)),
    "ResultReadyEventType": (1024, 2041, tuple(f for f in _RESULT if f.name != "HasTransferableDataOnFile")),
}
"""Identifier, supertype of namespace 0, properties."""

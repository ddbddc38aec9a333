"""Results, recipes and configuration of an OPC 40100-1 vision system: what its management objects answer.

All of it runs on the server's thread. Lists give at most MaxResults entries (0: all) from StartIndex on; handles are always 0,
since nothing has to be released.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from edgead.runtime.records.wallclock import utc_now
from edgead.runtime.vision import model as model
from edgead.runtime.vision.space import Space
from edgead.types import Inspection, Verdict

KEPT_RESULTS = 1000
NOT_KNOWN = -1
"""Error of methods: there is no such recipe, configuration or result (negative numbers are the vendor's own)."""

_FILTERS = (
    "MeasId",
    "PartId",
    "ExternalRecipeId",
    "InternalRecipeId",
    "ExternalConfigurationId",
    "InternalConfigurationId",
    "ProductId",
    "JobId",
)


class Catalog:
    """What was inspected, with what.

    Args:
        space: makes structures.
        name: of the only configuration.
        recipe: of the recipe that runs.
        numbers: recipes that can be asked for.
    """

    def __init__(self, space: Space, name: str, recipe: str, numbers: Sequence[int]) -> None:
        self._space, self._name = space, name
        self.recipe = recipe
        self.recipes = (recipe, *(str(number) for number in numbers if str(number) != recipe))
        self._results: OrderedDict[str, Any] = OrderedDict()
        self._started = utc_now()
        self._boot = f"{time.time_ns() // 1_000_000:x}"
        self._made = 0

    def job_id(self, number: int | None) -> Any:
        """Another one after each start of edgead; empty without a job."""
        return self._space.make(model.JOB_ID, Id=f"{self._boot}-{number}" if number is not None else "")

    def recipe_id(self, name: str) -> Any:
        return self._space.make(model.RECIPE_INTERNAL, Id=name)

    def configuration(self) -> Any:
        internal = self._space.make(model.CONFIGURATION_ID, Id=self._name)
        changed = self._started
        return self._space.make(model.CONFIGURATION, HasTransferableDataOnFile=False, InternalId=internal, LastModified=changed)

    def add(self, inspection: Inspection, job_id: Any, **given: Any) -> Any:
        """The result of an inspection; `given` are MeasId, PartId, ProductId and the start as `since`, as far as known."""
        make = self._space.make
        now = utc_now()
        self._made += 1
        since = given.pop("since", None) or now - timedelta(milliseconds=inspection.times.total_ms)
        times = make(model.TIMES, StartTime=since, EndTime=now, ProcessingDuration=inspection.times.total_ms)
        result = make(
            model.RESULT,
            ResultId=make(model.RESULT_ID, Id=f"{self._boot}-{self._made}"),
            HasTransferableDataOnFile=False,
            IsPartial=False,
            IsSimulated=False,
            ResultState=_state(inspection),
            ExternalRecipeId=make(model.RECIPE_EXTERNAL, Id=self.recipe),
            InternalRecipeId=self.recipe_id(self.recipe),
            InternalConfigurationId=self.configuration().InternalId,
            JobId=job_id,
            CreationTime=now,
            ProcessingTimes=times,
            ResultContent=self._content(inspection),
            **given,
        )
        self._results[result.ResultId.Id] = result
        while len(self._results) > KEPT_RESULTS:
            self._results.popitem(last=False)
        return result

    def _content(self, inspection: Inspection) -> list[Any]:
        variant = self._space.variant
        texts = [variant(inspection.verdict.value, "String"), variant(inspection.cause, "String")]
        return [*texts, variant(float(inspection.score), "Double"), variant(float(inspection.threshold), "Double")]

    # Methods of the standard

    async def result_by_id(self, result_id: Any, _timeout: int) -> Sequence[Any]:
        found = self._results.get(result_id.Id or "") if result_id is not None else None
        return [0, found, 0] if found is not None else [0, self._space.make(model.RESULT, ResultState=0), NOT_KNOWN]

    async def result_components(self, result_id: Any, timeout: int) -> Sequence[Any]:
        _, result, error = await self.result_by_id(result_id, timeout)
        fields = next(struct for struct in model.STRUCTS if struct.id == model.RESULT).fields
        return [False, 0, *(self._part(result, field) for field in fields[2:]), error]

    def _part(self, result: Any, field: model.Field) -> Any:
        value = getattr(result, field.name)
        if value is not None:
            return value
        return False if field.type == model.BOOLEAN else [] if field.array else self._space.make(field.type)

    async def results(self, state: int, *rest: Any) -> Sequence[Any]:
        *wanted, most, first, _timeout = rest

        def fits(result: Any) -> bool:
            pairs = [(w.Id if w is not None else "", getattr(result, name)) for w, name in zip(wanted, _FILTERS, strict=True)]
            return state in (0, result.ResultState) and all(not w or (has is not None and has.Id == w) for w, has in pairs)

        return _page([result for result in self._results.values() if fits(result)], most, first)

    def recipe_list(self, external: Any, prepared: int, most: int, first: int, ready: bool) -> Sequence[Any]:
        """`prepared`: 0 no, 1 yes, 2 does not matter; `ready`: the recipe that runs is prepared."""
        wanted = external.Id if external is not None else ""
        names = [name for name in self.recipes if wanted in ("", None, name)]
        names = [name for name in names if prepared == 2 or bool(prepared) == (ready and name == self.recipe)]
        return _page([self.recipe_id(name) for name in names], most, first)

    async def activate(self, internal: Any) -> Sequence[Any]:
        return [0 if internal is not None and internal.Id == self._name else NOT_KNOWN]

    async def configuration_by_id(self, internal: Any, _timeout: int) -> Sequence[Any]:
        (error,) = await self.activate(internal)
        return [0, self.configuration(), error]

    async def configurations(self, most: int, first: int, _timeout: int) -> Sequence[Any]:
        return _page([self.configuration()], most, first)


def _state(inspection: Inspection) -> int:
    if inspection.verdict is not Verdict.UNKNOWN:
        return model.COMPLETED
    return model.ABORTED if inspection.cause in ("stopped", "aborted") else model.FAILED


def _page(found: list[Any], most: int, first: int) -> list[Any]:
    page = found[first : first + most] if most else found[first:]
    return [first + len(page) >= len(found), len(page), 0, page, 0]

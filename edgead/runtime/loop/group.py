"""Several stations in one process: a camera each, engines shared if wanted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from edgead.errors import BadInput, EngineError
from edgead.runtime.loop.lines import SLICE_S
from edgead.runtime.loop.station import Station
from edgead.runtime.loop.stats import Health, Stats
from edgead.runtime.threads import Crew, Supervised
from edgead.types import AnomalyMap, Engine, Image, TensorSpec

_log = logging.getLogger("edgead.station")


class SharedEngine:
    """An engine that several stations use, one at a time. Waiting for it counts as inference, in each one's own budget."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._engine.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._engine.outputs

    def infer(self, image: Image) -> tuple[float, AnomalyMap]:
        """As the engine's own."""
        with self._lock:
            return self._engine.infer(image)

    def close(self) -> None:
        """Close the engine itself."""
        with self._lock:
            self._engine.close()


class StationGroup:
    """Runs stations side by side, each in its own threads; one that fails stops them all.

    Args:
        stations: by name.

    Raises:
        BadInput: none.
    """

    def __init__(self, stations: Mapping[str, Station]) -> None:
        if not stations:
            raise BadInput("a group needs at least one station")
        self._stations = dict(stations)
        self._ended = threading.Semaphore(0)  # a hint to look: threads may end in other ways

    def run(self, max_parts: int | None = None) -> dict[str, Stats]:
        """Run all of them until each has ended, one has failed, or `stop` is called.

        Args:
            max_parts: for each station.

        Raises:
            EdgeadError: what the first station that failed raised; the others have been stopped.
        """
        errors: list[BaseException] = []
        crew = Crew.current()

        def failed(name: str, error: BaseException) -> None:
            errors.append(error)
            _log.error("%s failed: %s", name, error)
            self.stop()

        def run(name: str, station: Station) -> None:
            try:
                station.run(max_parts)
            except Exception as error:  # noqa: BLE001 - carried to the caller
                failed(name, error)
            finally:
                self._ended.release()

        def died(name: str, error: BaseException) -> None:
            failed(name, EngineError(f"the thread of {name} died: {error!r}", hint="restart the process"))

        threads = [
            Supervised(name, partial(run, name, station), died=partial(died, name), restart=False, kind=EngineError)
            for name, station in self._stations.items()
        ]
        for thread in threads:
            thread.start()
        try:
            while not all(thread.over for thread in threads):
                self._ended.acquire(timeout=SLICE_S)
                crew.look()
        except BaseException:
            self.stop()
            raise
        finally:
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        return {name: station.stats for name, station in self._stations.items()}

    def stop(self) -> None:
        """Let `run` return soon; from any thread, and from a signal handler."""
        for station in self._stations.values():
            station.stop()

    def health(self) -> dict[str, Health]:
        """Of each station."""
        return {name: station.health() for name, station in self._stations.items()}

    def close(self) -> None:
        """Close all stations, whatever one of them raises."""
        with ExitStack() as stack:
            for station in self._stations.values():
                stack.callback(station.close)

    def __enter__(self) -> StationGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

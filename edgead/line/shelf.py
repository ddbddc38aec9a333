"""The engines of a process: each opened and proved once, however many cameras use it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgead.bundle import Bundle, EngineRecord
    from edgead.signing import TrustedKey
    from edgead.types import Engine


@dataclass(slots=True)
class Loaded:
    """A bundle with one of its engines, proved on this device; `users` hold it."""

    bundle: Bundle
    record: EngineRecord
    engine: Engine
    calm: float
    users: int = 0


@dataclass(slots=True)
class Shelf:
    """Where they stand. From any thread.

    Attributes:
        threads: CPU threads of each engine; None: all cores.
        allow_unverified: run engines whose parity was never measured.
        keep: keep compiled engines in the user's cache from one start to the next.
        trusted: one of these keys must have signed each bundle; empty: bundles need no signature.
    """

    threads: int | None = None
    allow_unverified: bool = False
    keep: bool = True
    trusted: tuple[TrustedKey, ...] = ()
    _engines: dict[tuple[Path, str, str], Loaded] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, path: Path, engine: str | None, sha256: str | None = None, *, running: bool = False) -> Loaded:
        """Open a bundle and its engine once, however many cameras use it; each gives it back by `release`. From any thread.

        A bundle of which only thresholds have changed since shares its engine with the one that was opened before.

        Args:
            sha256: the digest that the bundle must have; None: any.
            running: nothing is opened anew: there must be such an engine already.

        Raises:
            EdgeadError: it does not open, is not the one that is wanted, or does not answer here as the trained model did.
        """
        from edgead.bundle import Bundle
        from edgead.errors import BundleMismatch
        from edgead.oci import kept

        with self._lock:
            bundle = Bundle.open(path, kept.pin(path, sha256), self.trusted)
            record = bundle.manifest.engine(engine)
            key = (path.resolve(), record.name, bundle.digest)
            if key not in self._engines and (twin := self._twin(key, bundle)) is not None:
                self._engines[key] = Loaded(bundle, record, twin.engine, twin.calm)
            if key not in self._engines and running:
                raise BundleMismatch(
                    f"{path} is another model than the one that runs: more than its thresholds has changed",
                    hint="restart the station to run it, or give it a recipe of its own",
                )
            if key not in self._engines:
                known = (kept.bundle for other, kept in self._engines.items() if (other[0], other[2]) == (key[0], key[2]))
                self._engines[key] = self._open(next(known, bundle), record)  # the golden frames are decoded once
            self._engines[key].users += 1
            return self._engines[key]

    def hold(self, engine: Engine) -> Loaded:
        """One more user of an engine that stands here."""
        with self._lock:
            loaded = next(kept for kept in self._engines.values() if kept.engine is engine)
            loaded.users += 1
            return loaded

    def release(self, loaded: Loaded) -> None:
        """The last one closes the engine."""
        with self._lock:
            loaded.users -= 1
            if loaded.users == 0:
                self._engines = {key: kept for key, kept in self._engines.items() if kept is not loaded}
                if all(kept.engine is not loaded.engine for kept in self._engines.values()):
                    loaded.engine.close()

    def _twin(self, key: tuple[Path, str, str], bundle: Bundle) -> Loaded | None:
        """The same engine of the same bundle, of which nothing but thresholds was another."""
        wanted = bundle.manifest.without_thresholds()
        for (path, name, _), kept in self._engines.items():
            if (path, name) == key[:2] and kept.bundle.manifest.without_thresholds() == wanted:
                return kept
        return None

    def _open(self, bundle: Bundle, record: EngineRecord) -> Loaded:
        from edgead.engines import open_engine
        from edgead.engines.proof import prove
        from edgead.runtime.loop.group import SharedEngine

        opened = open_engine(bundle, record.name, self.threads, unverified=self.allow_unverified, keep=self.keep)
        try:
            return Loaded(bundle, record, SharedEngine(opened), prove(bundle, record, opened))
        except BaseException:
            opened.close()
            raise

"""Every long-lived thread of the runtime: whatever it dies of, and when it only stands still, somebody notices.

    self._thread = Supervised("pylon", self._receive, died=self._lost, patience_s=10.0)
    self._thread.start()
    ...
    self._closing = True
    self._thread.join(5.0)

No thread of :mod:`edgead.runtime` is started in any other way (tests/runtime/test_threads.py). What a thread does about the
faults that it expects (an OSError of its socket) stays its own business; here everything else ends up: bugs, MemoryError, panics
of native extensions (they derive from BaseException), SystemExit, threads that something killed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from edgead.clock import Clock, MonotonicClock
from edgead.errors import EdgeadError, OutputError

PAUSES_S = (0.1, 10.0)
"""After the first death work begins again at once; then come pauses, the first and the longest of them, doubling in between."""

PROBATION_S = 5.0
"""A thread that was started again is shown as a fault for so long: who looks now and then must see it, too."""

FORGIVEN_S = 60.0
"""A thread that has lived for so long begins again with the shortest pause."""

LOOK_S = 0.5
"""How often a crew is looked after, at most."""

HELD_UP_S = 4 * LOOK_S
"""When nobody could look for so long, the whole process was held up (SIGSTOP, suspend): nobody stands still because of that."""

_KERNEL_TELLS = Path(f"/proc/self/task/{threading.get_native_id()}").exists()
"""Linux lists our threads, by the numbers that we know them by (not so with the /proc of another container)."""

_log = logging.getLogger("edgead.threads")


@dataclass(frozen=True, slots=True)
class Death:
    """What threads of one name died of.

    Attributes:
        count: how often.
        cause: the last one, in one line.
        exit_code: what a process ends with because of it.
    """

    count: int
    cause: str
    exit_code: int


class Gone(Exception):
    """A thread ended without a word: something killed it."""


class Crew:
    """The threads of one station, or of a process, and what befell them.

    A thread belongs to the crew that is :meth:`current` where it is made, and so do threads that it makes itself. Outside of
    any :meth:`own` that is a crew of the whole process.

    Args:
        name: for people; "" for the process.
        clock: measures pauses and who stands still.
    """

    def __init__(self, name: str = "", clock: Clock | None = None) -> None:
        self.name, self.clock = name, clock or MonotonicClock()
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._members: dict[Supervised, None] = {}
        self._deaths: dict[str, Death] = {}
        self._branches: list[Crew] = []
        self._looked_ns: int | None = None

    @staticmethod
    def current() -> Crew:
        """The crew to which a thread made here would belong."""
        return _current.get()

    def branch(self, name: str) -> Crew:
        """A crew of its own within this one: that of a station within a process."""
        crew = Crew(name, self.clock)
        with self._lock:
            self._branches.append(crew)
        return crew

    @contextmanager
    def own(self) -> Iterator[Crew]:
        """Threads made in the block, by the calling thread, belong to this crew."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def faults(self) -> dict[str, str]:
        """What is wrong with its threads now, by thread; without those of branches. Cheap, from any thread."""
        with self._lock:
            members = list(self._members)
        return {member.name: fault for member in members if (fault := member.fault)}

    def deaths(self) -> dict[str, Death]:
        """What its threads died of so far, also those that were closed since; without those of branches."""
        with self._lock:
            return dict(self._deaths)

    def crews(self) -> list[Crew]:
        """Itself and its branches."""
        with self._lock:
            return [self, *self._branches]

    def look(self) -> None:
        """Look after every thread: one that is gone is replaced, one that stands still is told. To be called several times
        a second by a thread that waits anyway; returns at once."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            now_ns = self.clock.now_ns()
            since_ns = 0 if self._looked_ns is None else now_ns - self._looked_ns
            if self._looked_ns is not None and since_ns < LOOK_S * 1e9:
                return
            self._looked_ns = now_ns
            with self._lock:
                members = list(self._members)
            for member in members:
                member.check(forgiving=since_ns > HELD_UP_S * 1e9)
        finally:
            self._looking.release()

    def note(self, name: str, cause: str, kind: type[EdgeadError]) -> None:
        """A thread of that name died (or will not end); it counts for the summary and the exit code."""
        with self._lock:
            seen = self._deaths.get(name, Death(0, "", kind.exit_code))
            self._deaths[name] = replace(seen, count=seen.count + 1, cause=cause)

    def enrol(self, member: Supervised) -> None:
        """It works from now on."""
        with self._lock:
            for former in [other for other in self._members if other.over and other.name == member.name]:
                del self._members[former]  # it had died for good
            self._members[member] = None

    def leave(self, member: Supervised) -> None:
        """It has ended as it should."""
        with self._lock:
            self._members.pop(member, None)


_current: ContextVar[Crew] = ContextVar("edgead crew", default=Crew())  # noqa: B039 - one for the process is what is meant


class Supervised:
    """A thread that calls `work`, which returns when the owner wants it to end.

    When `work` raises, whatever it is, the thread has died: `died` is called, the death is logged with its trace and counted,
    and `work` is called again, at once after the first death, then after growing pauses. When the thread itself is gone, a new
    one does the same. While a thread is dead, on probation, gone or standing still, `fault` says so, and so does its crew.

    Args:
        name: what it does, unique in its station and without "edgead-": "capture", "output GpioOutput".
        work: the loop. It may be called again after it raised, so what it keeps must be in order by then (or be put in order by
            `died`). A return is its normal end.
        died: puts everything into a safe state and counts what was lost: told the exception, on this thread, before anything
            else happens; `Gone` when the thread was killed.
        stalled: makes the output safe while `work` stands still; called once for each time, on a thread of its own, so it must
            not rely on anything that `work` might hold.
        restart: False: `work` is not called again; the fault stays until `join`.
        patience_s: without `turn` (or `rest`) for so many seconds it stands still; None: not looked for.
        kind: whose exit code a death stands for: OutputError, CameraError (6), StorageError (7), EngineError (5).
        crew: None: the current one.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        died: Callable[[BaseException], None] | None = None,
        stalled: Callable[[], None] | None = None,
        restart: bool = True,
        patience_s: float | None = None,
        kind: type[EdgeadError] = OutputError,
        crew: Crew | None = None,
    ) -> None:
        self.name = name
        self._work, self._died, self._stalled, self._restart, self._kind = work, died, stalled, restart, kind
        self._patience_ns = None if patience_s is None else round(patience_s * 1e9)
        self._crew = crew or Crew.current()
        self._clock = self._crew.clock
        self._changed = threading.Condition()
        self._replacing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._turned_ns: int | None = None  # when its last turn began; None: it rests, or nobody wants to know
        self._standing = self._ending = False
        self._over = False  # the thread has ended by itself: `work` returned, or nobody wants it to be called again
        self._ending_s: float | None = None  # until when whoever joins waits
        self._dead, self._cause = False, ""
        self._died_ns: int | None = None
        self._streak = 0

    # For `work`

    def turn(self) -> None:
        """A turn of the loop begins: what follows may take `patience_s` seconds at most."""
        self._turned_ns = self._clock.now_ns()

    def rest(self) -> None:
        """It waits for work now, for as long as that takes."""
        self._turned_ns = None

    # For its owner

    def start(self) -> None:
        """Begin, after the owner has kept this object: `work` may want its `turn`. Raises RuntimeError: no more threads."""
        self._crew.enrol(self)
        self._begin(None)

    @property
    def started(self) -> bool:
        """`start` was called."""
        return self._thread is not None

    @property
    def alive(self) -> bool:
        """It works, or will again; False when it has not begun, has ended, or died for good."""
        return self._thread is not None and not self._over and not self._gone()

    @property
    def still(self) -> bool:
        """Nothing moves now: it is dead, gone or stands still. (`fault` also tells of what it was begun again after.)"""
        return self._dead or self._gone() or self._still_s(self._clock.now_ns()) is not None

    @property
    def over(self) -> bool:
        """It has ended by itself: `work` has returned, or it died and is not to be started again."""
        return self._over

    @property
    def fault(self) -> str:
        """What is wrong with it now, in words for people; "" when nothing is. From any thread."""
        if self._thread is None:
            return ""
        if self._gone():
            return "its thread is gone"
        if self._dead:
            return f"its thread died of {self._cause}" + ("; it will be started again" if self._restart else "")
        if self._over:
            return ""
        now_ns = self._clock.now_ns()
        if (still_s := self._still_s(now_ns)) is not None:
            return f"its thread stands still for {still_s:.0f} s"
        if self._died_ns is not None and now_ns - self._died_ns < PROBATION_S * 1e9:
            return f"its thread died of {self._cause}; it was started again"
        return ""

    def join(self, wait_s: float | None = None) -> bool:
        """Wait for its end, for which the owner has arranged already; False when it has not ended within `wait_s` seconds.

        From now on a thread that dies is started again without pauses, and only as long as somebody waits here: what is queued
        is dealt with. One that does not end is counted like a death, if it was to live long. May be called twice, and before
        `start`.
        """
        with self._changed:
            first, self._ending = not self._ending, True
            self._ending_s = None if wait_s is None else time.monotonic() + wait_s
            self._changed.notify_all()
        if self._gone():
            self._begin_again()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and not self._gone():
            thread.join(wait_s)
        ended = thread is None or self._over or self._gone()
        if ended:
            self._crew.leave(self)
        elif first and self._restart:
            self._crew.note(self.name, "it does not end; its thread is left behind", self._kind)
        return ended

    def check(self, *, forgiving: bool = False) -> None:
        """For its crew: notice that it is gone, and whether it stands still. `forgiving`: the process was held up."""
        if self._thread is None or self._over:
            return
        if self._gone():
            if not self._ending:
                self._begin_again()
            return
        still_s = None if forgiving else self._still_s(self._clock.now_ns())
        if still_s is not None and not self._standing:
            self._standing = True
            _log.error("%s: its thread stands still since %.0f s", self._title(), still_s)
            if self._stalled is not None:
                self._make_safe(self._stalled)
        elif still_s is None and self._standing:
            self._standing = False
            _log.warning("%s: its thread goes on", self._title())

    def _make_safe(self, stalled: Callable[[], None]) -> None:
        try:
            Supervised(f"{self.name}, safe", stalled, restart=False, kind=self._kind, crew=self._crew).start()
        except RuntimeError as error:
            _log.critical("%s: it cannot be made safe: %s", self._title(), error)

    def _begin(self, first: BaseException | None) -> None:
        thread = threading.Thread(target=self._run, args=(first,), name=f"edgead-{self.name}", daemon=True)
        thread.start()
        self._thread = thread  # not before: a thread that only begins looks like one that is gone

    def _begin_again(self) -> None:
        """A new thread tells of the death of the old one, since what it calls may hang on what that one has held."""
        with self._replacing:
            if not self._gone():  # somebody else was faster
                return
            self._turned_ns, self._standing = None, False
            try:
                self._begin(Gone("it was killed"))
            except RuntimeError as error:  # no more threads: the next look tries again
                _log.critical("%s: its thread is gone and cannot be replaced: %s", self._title(), error)

    def _gone(self) -> bool:
        """Did it end without finishing? Python does not learn of a thread that was ended below it; the kernel knows."""
        thread = self._thread
        if thread is None or self._over or thread is threading.current_thread():
            return False
        seen = not _KERNEL_TELLS or thread.native_id is None or Path(f"/proc/self/task/{thread.native_id}").exists()
        return not (seen and thread.is_alive()) and not self._over  # it may have finished meanwhile: look at that last

    def _still_s(self, now_ns: int) -> float | None:
        """For how long it has stood still; None when it does not."""
        turned_ns = self._turned_ns
        if turned_ns is None or self._patience_ns is None or now_ns - turned_ns <= self._patience_ns:
            return None
        return (now_ns - turned_ns) / 1e9

    # On its thread

    def _run(self, error: BaseException | None) -> None:
        _current.set(self._crew)  # for threads that it makes
        while error is None or self._mourn(error):
            try:
                self._work()
            except BaseException as caught:  # noqa: BLE001 - this is what the class is for
                error = caught
            else:
                self._crew.leave(self)
                break
        self._over = True

    def _mourn(self, error: BaseException) -> bool:
        """What follows from a death, the most important things first; whether `work` shall be called again."""
        now_ns = self._clock.now_ns()
        recent = self._died_ns is not None and now_ns - self._died_ns < FORGIVEN_S * 1e9
        self._streak = self._streak + 1 if recent else 1
        self._cause, self._died_ns, self._dead, self._turned_ns = _told(error), now_ns, True, None
        self._crew.note(self.name, self._cause, self._kind)
        worse: BaseException | None = None
        if self._died is not None:
            try:
                self._died(error)
            except BaseException as caught:  # noqa: BLE001 - whatever it is, the thread must go on
                worse = caught
        trace = (type(error), error, error.__traceback__)
        _log.critical("%s: its thread died of %s", self._title(), self._cause, exc_info=trace)
        if worse is not None:
            _log.critical("%s: what follows from it failed, too: %s", self._title(), _told(worse))
        if not (self._restart and self._wait()):
            return False
        self._dead = False
        return True

    def _wait(self) -> bool:
        """The pause before `work` is called again; False when nobody wants that any more."""
        first_s, longest_s = PAUSES_S
        pause_s = 0.0 if self._streak == 1 else min(first_s * 2 ** min(self._streak - 2, 30), longest_s)
        with self._changed:
            until_ns = self._clock.now_ns() + round(pause_s * 1e9)
            while not self._ending and self._clock.now_ns() < until_ns:
                self._clock.wait(self._changed, until_ns)
            if not self._ending:
                return True
            self._changed.wait(0.001)  # a loop that dies at once shall not spin
        return self._ending_s is None or time.monotonic() < self._ending_s

    def _title(self) -> str:
        return f"{self._crew.name}, {self.name}" if self._crew.name else self.name


def _told(error: BaseException) -> str:
    """In one line, whatever `error` is."""
    try:
        return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": ")
    except BaseException:  # noqa: BLE001 - a native extension's exception may not even be able to say what it is
        return type(error).__name__

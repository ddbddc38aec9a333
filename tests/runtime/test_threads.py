"""A thread that dies of whatever, is killed, or only stands still is noticed, made safe, told, and begun again."""

from __future__ import annotations

import ast
import ctypes
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import edgead.runtime
from edgead.errors import CameraError, StorageError
from edgead.runtime.threads import FORGIVEN_S, PAUSES_S, PROBATION_S, Crew, Supervised
from edgead.testing import FakeClock, Hang
from tests.waiting import PATIENCE_S, until


class Panic(BaseException):
    """As native extensions raise them: no Exception."""

    def __str__(self) -> str:
        raise Panic


class Script:
    """A loop that raises what a list says, one exception a call, and then works until it is let go."""

    def __init__(self, *faults: BaseException) -> None:
        self.faults = list(faults)
        self.calls = 0
        self.hang = Hang()

    def __call__(self) -> None:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        self.hang.wait()


def ended(thread: Supervised, script: Script) -> bool:
    script.hang.let_go()
    return thread.join(PATIENCE_S)


@pytest.mark.parametrize("fault", [ValueError("x"), MemoryError(), SystemExit(0), KeyboardInterrupt(), GeneratorExit(), Panic()])
def test_whatever_it_dies_of_it_is_safe_told_counted_and_works_again(
    fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    crew, script = Crew("top", FakeClock()), Script(fault)
    safe: list[BaseException] = []
    with crew.own():
        thread = Supervised("output Lamp", script, died=safe.append, kind=CameraError)
        thread.start()
    assert script.hang.entered.acquire(timeout=PATIENCE_S)
    assert safe == [fault]
    assert thread.alive
    assert crew.faults() == {"output Lamp": thread.fault}
    assert thread.fault.startswith(f"its thread died of {type(fault).__name__}")
    assert thread.fault.endswith("it was started again")
    assert {name: (d.count, d.exit_code) for name, d in crew.deaths().items()} == {"output Lamp": (1, 6)}
    assert next(r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL).startswith(
        "top, output Lamp: its thread"
    )
    assert ended(thread, script)
    assert crew.faults() == {}
    assert crew.deaths()  # the run is not clean because of that


def test_a_fault_is_shown_until_the_thread_has_proved_itself_and_pauses_grow() -> None:
    clock = FakeClock()
    crew, script = Crew("", clock), Script(ValueError("1"), ValueError("2"), ValueError("3"))
    thread = Supervised("x", script, crew=crew)
    thread.start()
    until(lambda: "will be started again" in thread.fault and script.calls == 2)  # the first pause is none
    assert thread.fault == "its thread died of ValueError: 2; it will be started again"
    begun_ns = clock.now_ns()
    until(lambda: clock.advance(0.01) or script.hang.entered.acquire(blocking=False))
    assert clock.now_ns() - begun_ns >= 3 * PAUSES_S[0] * 1e9  # one, and one of twice the length
    assert "was started again" in thread.fault
    clock.advance(PROBATION_S)
    assert thread.fault == ""
    assert ended(thread, script)


def test_one_that_has_lived_long_is_begun_again_at_once() -> None:
    clock = FakeClock()
    crew = Crew("", clock)
    fail, calls, end = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def work() -> None:
        calls.release()
        if fail.acquire(timeout=PATIENCE_S) and not end.is_set():
            raise ValueError("again")

    thread = Supervised("x", work, crew=crew)
    thread.start()
    for _ in range(3):  # without forgiveness the second would wait for the clock
        assert calls.acquire(timeout=PATIENCE_S)
        clock.advance(FORGIVEN_S)
        fail.release()
    assert calls.acquire(timeout=PATIENCE_S)
    end.set()
    fail.release()
    assert thread.join(PATIENCE_S)


def test_one_that_is_not_to_be_started_again_stays_a_fault_until_its_owner_closes_it() -> None:
    crew, script = Crew(), Script(ValueError("no"))
    thread = Supervised("client", script, restart=False, crew=crew, kind=StorageError)
    thread.start()
    until(lambda: not thread.alive)
    crew.look()
    assert script.calls == 1
    assert crew.faults() == {"client": "its thread died of ValueError: no"}
    assert thread.join(PATIENCE_S)
    assert crew.faults() == {}
    assert crew.deaths()["client"].exit_code == 7


def test_what_follows_from_a_death_may_fail_itself(caplog: pytest.LogCaptureFixture) -> None:
    def died(error: BaseException) -> None:
        raise Panic

    crew, script = Crew(), Script(ValueError("no"))
    thread = Supervised("x", script, died=died, crew=crew)
    thread.start()
    assert script.hang.entered.acquire(timeout=PATIENCE_S)
    assert "what follows from it failed, too: Panic" in caplog.text
    assert ended(thread, script)


def test_what_is_queued_at_the_end_is_dealt_with_although_each_item_kills() -> None:
    items, dead, go = list(range(50)), [], threading.Event()

    def work() -> None:
        go.wait(PATIENCE_S)
        while items:
            raise ValueError(items.pop())

    thread = Supervised("x", work, died=dead.append, crew=Crew())
    thread.start()
    go.set()
    assert thread.join(PATIENCE_S)
    assert items == []
    assert len(dead) == 50


def test_one_that_dies_for_ever_is_given_up_when_nobody_waits_any_more() -> None:
    def work() -> None:
        raise ValueError("always")

    thread = Supervised("x", work, crew=Crew())
    thread.start()
    thread.join(0.05)
    until(lambda: not thread.alive)
    assert thread.join(0)


def test_one_that_stands_still_is_told_made_safe_and_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    clock, hang, safe = FakeClock(), Hang(), threading.Event()
    crew = Crew("top", clock)

    def work() -> None:
        thread.rest()
        go.wait(PATIENCE_S)
        thread.turn()
        hang.wait()
        thread.turn()
        end.wait(PATIENCE_S)

    go, end = threading.Event(), threading.Event()
    thread = Supervised("output Lamp", work, stalled=safe.set, patience_s=3.0, crew=crew)
    thread.start()
    look_for(crew, clock, 10.0)
    assert thread.fault == ""  # it waits for work: nobody can say how long that takes
    go.set()
    assert hang.entered.acquire(timeout=PATIENCE_S)
    look_for(crew, clock, 3.0)
    assert thread.fault == ""
    look_for(crew, clock, 1.0)
    assert safe.wait(PATIENCE_S)
    assert crew.faults()["output Lamp"] == "its thread stands still for 4 s"
    hang.let_go()
    until(lambda: thread.fault == "")
    look_for(crew, clock, 1.0)
    assert [r.getMessage() for r in caplog.records] == [
        "top, output Lamp: its thread stands still since 4 s",
        "top, output Lamp: its thread goes on",
    ]
    assert crew.deaths() == {}
    end.set()
    assert thread.join(PATIENCE_S)


def test_nobody_stands_still_because_the_whole_process_did() -> None:
    clock, hang, safe = FakeClock(), Hang(), threading.Event()
    crew = Crew("", clock)

    def work() -> None:
        thread.turn()
        hang.wait()

    thread = Supervised("x", work, stalled=safe.set, patience_s=3.0, crew=crew)
    thread.start()
    assert hang.entered.acquire(timeout=PATIENCE_S)
    crew.look()
    clock.advance(60)
    crew.look()
    assert not safe.is_set()
    look_for(crew, clock, 1.0)
    assert safe.wait(PATIENCE_S)
    hang.let_go()
    assert thread.join(PATIENCE_S)


def look_for(crew: Crew, clock: FakeClock, seconds: float) -> None:
    """As a station does it all the time."""
    crew.look()
    for _ in range(round(seconds)):
        clock.advance(1.0)
        crew.look()


def test_one_that_does_not_end_counts() -> None:
    crew, script = Crew(), Script()
    thread = Supervised("x", script, crew=crew)
    thread.start()
    assert script.hang.entered.acquire(timeout=PATIENCE_S)
    assert not thread.join(0.01)
    assert crew.deaths()["x"].cause == "it does not end; its thread is left behind"
    assert ended(thread, script)
    assert crew.deaths()["x"].count == 1


def test_threads_belong_to_where_they_were_made_and_so_do_those_that_they_make() -> None:
    process = Crew()
    made: list[Supervised] = []
    scripts = [Script(ValueError("inner")), Script()]

    def work() -> None:
        made.append(Supervised("inner", scripts[0]))
        made[0].start()
        scripts[1].hang.wait()

    with process.branch("top").own() as top:
        outer = Supervised("outer", work)
    outer.start()
    assert scripts[0].hang.entered.acquire(timeout=PATIENCE_S)
    assert set(top.deaths()) == {"inner"}
    assert process.deaths() == {}
    assert [crew.name for crew in process.crews()] == ["", "top"]
    assert Crew.current() not in process.crews()
    for thread, script in zip((made[0], outer), scripts, strict=True):
        assert ended(thread, script)


def test_an_exception_thrown_into_a_thread_from_outside_is_a_death_like_any_other() -> None:
    crew, stop = Crew(), threading.Event()
    numbers: list[int] = []

    def work() -> None:
        numbers.append(threading.get_ident())
        while not stop.wait(0.001):
            pass

    thread = Supervised("x", work, crew=crew)
    thread.start()
    until(lambda: numbers)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(numbers[0]), ctypes.py_object(Panic))
    until(lambda: len(numbers) == 2)
    assert crew.deaths()["x"].cause == "Panic"
    stop.set()
    assert thread.join(PATIENCE_S)


def test_one_that_only_begins_is_not_taken_for_one_that_is_gone() -> None:
    crew, end = Crew(), threading.Event()
    calls: list[int] = []
    all_begun = threading.Event()

    def look() -> None:
        while not all_begun.is_set():
            for member in list(crew._members):
                member.check()

    looking = threading.Thread(target=look)

    def work() -> None:
        calls.append(1)
        end.wait(PATIENCE_S)

    looking.start()
    threads = [Supervised(str(number), work, crew=crew) for number in range(100)]
    for thread in threads:
        thread.start()
    all_begun.set()
    looking.join()
    end.set()
    assert all(thread.join(PATIENCE_S) for thread in threads)
    assert len(calls) == 100
    assert crew.deaths() == {}


KILLED = """
import ctypes, threading
from edgead.runtime.threads import Crew, Supervised
from tests.waiting import PATIENCE_S, until

crew, dead, stop, begun = Crew(), [], threading.Event(), []

def work():
    begun.append(threading.get_native_id())
    if len(begun) == 1:
        ctypes.CDLL(None).pthread_exit(None)
    stop.wait(PATIENCE_S)

thread = Supervised("x", work, died=dead.append, crew=crew)
thread.start()
until(lambda: thread.fault == "its thread is gone")
crew.look()
until(lambda: len(begun) == 2)
stop.set()
assert thread.join(PATIENCE_S)
print(type(dead[0]).__name__, crew.deaths()["x"].cause, crew.faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which threads there are")
def test_one_that_was_killed_below_python_is_replaced() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=5 * PATIENCE_S, check=False)
    assert done.stdout == "Gone Gone: it was killed {}\n", done.stderr


# No thread of the runtime is started in any other way.

THREADS = {"Thread", "Timer", "start_new_thread", "ThreadPoolExecutor", "ProcessPoolExecutor", "Pool", "Process", "fork"}
PROCESSES = {f"subprocess.{name}" for name in ("Popen", "call", "check_call", "check_output")} | {"Popen", "os.system"}
LIBRARIES = {
    "loop_start",
    "run_in_executor",
    "to_thread",
    "create_subprocess_exec",
    "create_subprocess_shell",
}  # paho's thread, asyncio's pools


def starters(tree: ast.AST) -> list[str]:
    """What in this code starts a thread or a process, by line."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        bounded = any(keyword.arg == "timeout" for keyword in node.keywords)
        whole = ast.unparse(node.func)
        if name in THREADS | LIBRARIES or whole in PROCESSES or (whole == "subprocess.run" and not bounded):
            found.append(f"{node.lineno}: {whole}")
    return found


def test_no_thread_and_no_process_of_the_runtime_is_started_in_any_other_way() -> None:
    root = Path(edgead.runtime.__file__).parent
    found = {str(path.relative_to(root)): starters(ast.parse(path.read_text("utf-8"))) for path in root.rglob("*.py")}
    found = {name: lines for name, lines in found.items() if lines}
    # The shadow's process is looked after by a thread of its own, and is killed with it (tests/runtime/test_shadow.py).
    assert {name: len(lines) for name, lines in found.items()} == {"threads.py": 1, "products/shadow.py": 1}, found


@pytest.mark.parametrize(
    "code",
    [
        "threading.Thread(target=f)",
        "Timer(1, f).start()",
        "subprocess.run(['x'])",
        "client.loop_start()",
        "_thread.start_new_thread(f)",
    ],
)
def test_that_check_sees(code: str) -> None:
    assert starters(ast.parse(code))


def test_a_program_with_a_time_limit_is_no_long_lived_process() -> None:
    assert not starters(ast.parse("subprocess.run(['x'], timeout=1)"))

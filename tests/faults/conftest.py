"""What the fault suite shares: a bundle, a small real disk, a wall clock that can be stepped."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_run import write_bundle
from tests.runtime.conftest import small_disk  # noqa: F401

SKEW_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *skew;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("EDGEAD_TEST_SKEW"), O_RDONLY);
    void *page = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) skew = page;
    close(file);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (skew && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *skew;
    return status;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    int status = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return status;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


class WallClockStep:
    """Steps the wall clock of a process that was started by `prefix`, and only that."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "skew"
        self._file.write_bytes(bytes(8))
        source, library = folder / "skew.c", folder / "skew.so"
        source.write_text(SKEW_SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
        self.prefix = ["env", f"EDGEAD_TEST_SKEW={self._file}", f"LD_PRELOAD={library}"]

    def step_to(self, seconds: int) -> None:
        """So far from the true time."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("faults") / "tiny.edgead")


@pytest.fixture(scope="module")
def wall_step(tmp_path_factory: pytest.TempPathFactory) -> WallClockStep | None:
    """None where there is no C compiler."""
    return WallClockStep(tmp_path_factory.mktemp("skew")) if shutil.which("cc") else None


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A real disk of 4 MiB; None where mounting is not allowed."""
    mount = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield mount if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(mount)], check=True)

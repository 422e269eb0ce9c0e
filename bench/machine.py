"""What the machine says: CPU time and memory of a process tree, other people's load, the disk.

CPU time is user and system time together. `/proc/<pid>/stat` has it in ticks of 10 ms, too coarse
for a proxy that needs 30 ms in a whole round; the scheduler's own count of the same time, in
nanoseconds, stands in `/proc/<pid>/task/<tid>/schedstat`, but forgets threads that have ended.
Neither ever says too much, so the larger of the two is taken.

Source: proc(5), and the kernel's Documentation/scheduler/sched-stats.rst.
"""

from __future__ import annotations

import os
import platform
import resource
import tempfile
import time
import timeit
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
_SYNCS = 60


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the candidate runs on, and which the load and the upstream share.

    Both are None on a machine with a single core: then nothing is pinned.
    """

    candidate: int | None
    load: int | None


@dataclass(frozen=True, slots=True)
class Disk:
    """How long one small append and its `fdatasync` take where the ledger lies, microseconds."""

    p50_us: float
    p99_us: float
    filesystem: str


def choose_cores() -> Cores:
    """Return two cores this process may use, the highest ones."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[-1], usable[-2]) if len(usable) > 1 else Cores(None, None)


def pin(core: int | None) -> None:
    """Keep this process, and what it starts from now on, on one core; None pins nothing."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def process_tree(root: int) -> list[int]:
    """Return a process and all its descendants, without those that have ended."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parent = parse_parent((entry / "stat").read_text())
                parents.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree += parents.get(pid, ())
    return tree


def cpu_us(pids: Iterable[int]) -> int:
    """Return the CPU time these processes have used so far, user and system, microseconds."""
    return sum(max(_scheduled_us(pid), _ticked_us(pid)) for pid in pids)


def own_cpu_us() -> int:
    """Return the CPU time of this process, of what it runs and of what it ran, microseconds."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended_us = int((ended.ru_utime + ended.ru_stime) * 1e6)
    return cpu_us(process_tree(os.getpid())) + ended_us


def parse_parent(stat: str) -> int:
    """Return the parent's id from a line of `/proc/<pid>/stat`."""
    return int(_after_name(stat)[1])


def parse_ticks(stat: str) -> int:
    """Return user and system time, in ticks, from a line of `/proc/<pid>/stat`."""
    fields = _after_name(stat)
    return int(fields[11]) + int(fields[12])


def rss_mb(pids: Iterable[int]) -> float:
    """Return the resident memory of these processes together, MB; shared pages count in each."""
    pages = 0
    for pid in pids:
        with suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def machine_busy_us() -> int:
    """Return how long all cores together have been busy since boot, microseconds."""
    user, nice, system, _, _, irq, softirq, steal = _cpu_line()
    return (user + nice + system + irq + softirq + steal) * _TICK_US


def measure_disk(folder: Path) -> Disk:
    """Return what an append with `fdatasync` costs in `folder`."""
    taken: list[int] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter_ns() - began)
    taken.sort()
    return Disk(taken[_SYNCS // 2] / 1e3, taken[-1] / 1e3, _filesystem(folder))


def describe() -> dict[str, str | int | float]:
    """Return what a figure cannot be read without: kernel, processor, cores, Python's speed."""
    return {
        "kernel": platform.release(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "yardstick_us": round(yardstick_us(), 1),
    }


def yardstick_us() -> float:
    """Return how long this Python takes for a fixed piece of work, microseconds, at its best.

    Builds of one and the same version differ by up to a third, and machines by more; absolute
    figures of two sessions can be compared only as far as this one agrees.
    """

    def work() -> None:
        counts: dict[str, int] = {}
        for number in range(2000):
            name = str(number & 255)
            counts[name] = counts.get(name, 0) + len(name)

    return min(timeit.repeat(work, number=20, repeat=9)) / 20 * 1e6


def _after_name(stat: str) -> list[str]:
    # The second field is the program's name, which may itself hold spaces and parentheses.
    return stat.rpartition(")")[2].split()


def _scheduled_us(pid: int) -> int:
    nanoseconds = 0
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds // 1000


def _ticked_us(pid: int) -> int:
    with suppress(OSError):
        return parse_ticks(Path(f"/proc/{pid}/stat").read_text()) * _TICK_US
    return 0


def _cpu_line() -> list[int]:
    with Path("/proc/stat").open() as file:
        return [int(field) for field in file.readline().split()[1:9]]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    where, found = folder.resolve(), ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if where.is_relative_to(mount) and len(mount) >= len(found[0]):
            found = (mount, kind)
    return found[1]

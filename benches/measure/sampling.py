"""Samples of commands, taken in turns, and what they come to."""

import os
import random
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

BENCH = Path("/bench")
CGROUPS = Path("/sys/fs/cgroup")
REST_MS = 60  # an isolated command: nothing before it that the kernel still cleans up
QUANTITIES = {"wall": "ms", "cpu": "ms", "rss": "MB"}


def view(name: str) -> Path:
    """A mount namespace that shows a part of the control groups; see peers/box-init. `peers`: v2 is hidden where v1 is there too.
    `few`: of v1 there are cpuset and devices alone."""
    return Path(f"/proc/{Path(f'/run/{name}.pid').read_text().strip()}/ns/mnt")


def processor_time_file() -> Path:
    """The file of the box's own group that counts the processor time of everything in the box."""
    return next(CGROUPS.glob("*/cpuacct.usage"), CGROUPS / "cpu.stat")


@dataclass(frozen=True)
class Command:
    """What is run, and in which view of the control groups, if not in the box's own."""

    arguments: tuple[str, ...]
    view: str = ""

    def wrapped(self) -> list[str]:
        """For everything that is not timed."""
        return [*(["nsenter", f"--mount={view(self.view)}", "--"] if self.view else []), *self.arguments]

    def call(self) -> str:
        done = subprocess.run(self.wrapped(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"benches: {' '.join(self.arguments)}: status {done.returncode}: {done.stderr[-600:]}")
        return done.stdout.strip()


def sample(command: Command, rest_ms: int = REST_MS, settle: bool = True) -> dict[str, float | str]:
    """One run: wall and processor time in ms (the latter of all that it sets off, if it may settle), peak resident size of the
    command in MB; also when it was started (ms of the monotonic clock), and what it printed."""
    helper = [str(BENCH / "sample"), "-r", str(rest_ms)]
    if not settle:
        helper += ["-s"]
    if command.view:
        helper += ["-m", str(view(command.view))]
    read, write = os.pipe()
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output, open(os.devnull, "rb") as null:
        actions = [
            (os.POSIX_SPAWN_DUP2, null.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
            (os.POSIX_SPAWN_DUP2, write, 9),
        ]
        arguments = [*helper, str(processor_time_file()), *command.arguments]
        pid = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=actions)
        os.close(write)
        os.waitpid(pid, 0)
        with os.fdopen(read) as answer:
            fields = answer.read().split()
        output.seek(0)
        printed = output.read().decode(errors="replace")
        if len(fields) != 5 or fields[3] != "0":
            errors.seek(0)
            message = errors.read().decode(errors="replace")[-600:]
            raise SystemExit(f"benches: {' '.join(command.arguments)}: {fields[3:] or 'not run'}: {message}")
    return {
        "wall": float(fields[0]) / 1e3,
        "cpu": float(fields[1]) / 1e3,
        "rss": int(fields[2]) * 1024 / 1e6,
        "start": float(fields[4]) / 1e3,
        "printed": printed,
    }


def summary(values: list[float]) -> dict[str, float]:
    quarters = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"n": len(values), "min": min(values), "p25": quarters[0], "median": statistics.median(values), "p75": quarters[2], "p95": sorted(values)[max(0, -(-len(values) * 19 // 20) - 1)]}


def compare(commands: dict[str, Command], rounds: int, rest_ms: int = REST_MS, warm: int = 2) -> dict[str, dict]:
    """Every command once a round, each round in another order, so that what one leaves to the kernel does not always hit the same."""
    taken: dict[str, list] = {name: [] for name in commands}
    order = list(commands)
    for turn in range(-warm, rounds):
        random.shuffle(order)
        for name in order:
            one = sample(commands[name], rest_ms)
            if turn >= 0:
                taken[name].append(one)
    return {name: {q: summary([one[q] for one in all_]) for q in QUANTITIES} for name, all_ in taken.items()}

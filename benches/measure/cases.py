"""What is measured. Each case takes the number of rounds and gives plain data for the report."""

import re
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import images
import network
import oci
from census import census, left_over, processes
from peers import DOCKER, ENGINES, PODMAN, TARE, Engine, floor_exec, floor_run, runtime_bundles, runtime_run
from sampling import BENCH, Command, compare

FEW, MANY, CROWD, SUPERVISED = 1, 100, 200, 31


def none(rounds: int) -> dict:
    """run --rm of true without a network, beside the bare runtimes on the same root filesystem"""
    commands = {engine.name: engine.run_true("none") for engine in ENGINES}
    bundles = runtime_bundles("crun", "runc")
    commands |= {runtime: runtime_run(runtime, bundles[runtime]) for runtime in ("crun", "runc")}
    return compare(commands | {"floor": floor_run()}, rounds)


def bridge(rounds: int) -> dict:
    """run --rm of true with the default bridge"""
    return compare({engine.name: engine.run_true("bridge") for engine in ENGINES}, rounds)


def exec_(rounds: int) -> dict:
    """exec of true in a running container"""
    bundle = runtime_bundles("crun")["crun-sleep"]
    for engine in ENGINES:
        engine.run("exec").call()
    # Detached, crun's container inherits what it is given: not our pipes, or reading them would not end.
    crun = Command(("sh", "-c", f"crun run -d -b {bundle} exec >/dev/null 2>&1"), "peers")
    crun.call()
    try:
        commands = {engine.name: engine.command("exec", "exec", "true") for engine in ENGINES}
        commands["crun"] = Command(("crun", "exec", "exec", "/bin/true"), "peers")
        return compare(commands | {"floor": floor_exec(TARE, "exec")}, rounds)
    finally:
        Command(("crun", "delete", "-f", "exec"), "peers").call()
        for engine in ENGINES:
            engine.rm(["exec"]).call()


def ps(rounds: int) -> dict:
    """ps with few and with many containers running"""
    result = {}
    started = 0
    try:
        for count in (FEW, MANY):
            for started in range(started, count):
                for engine in ENGINES:
                    engine.run(f"ps{started}").call()
            started = count
            rows = compare({engine.name: engine.command("ps") for engine in ENGINES}, rounds)
            result |= {f"{name}, {count} running": row for name, row in rows.items()}
    finally:
        for engine in ENGINES:
            engine.rm([f"ps{i}" for i in range(started)]).call()
    return result


def many(_rounds: int) -> dict:
    """200 containers with a bridge started 8 at once, then removed by one command; once each, and what is left of them"""
    return {engine.name: crowd(engine) for engine in ENGINES}


def crowd(engine: Engine) -> dict:
    names = [f"many{i}" for i in range(CROWD)]
    template = engine.run("{}", "bridge").wrapped()
    # What an engine keeps for the bridge itself is not of these containers.
    engine.run_true("bridge").call()
    before = census()
    start = time.monotonic()
    started = subprocess.run(["xargs", "-P8", "-I{}", *template], input="\n".join(names), text=True, capture_output=True)
    middle = time.monotonic()
    running = len(engine.command("ps", "-q").call().split())
    middle_after = time.monotonic()
    removed = subprocess.run(engine.rm(names).wrapped(), text=True, capture_output=True)
    end = time.monotonic()
    left = left_over(before)
    return {
        "containers": CROWD,
        "start_s": middle - start,
        "remove_s": end - middle_after,
        "failures": CROWD - running,
        "errors": (started.stderr + removed.stderr)[-600:],
        "left": left,
    }


def start(rounds: int) -> dict:
    """start of the binary beside a bare static program: five times the rounds, because the difference is small"""
    return compare({"tare": TARE.command("version"), "bare": Command((str(BENCH / "bare"),))}, rounds * 5, rest_ms=0)


def memory(_rounds: int) -> dict:
    """memory of what watches a container, mean of 31, and of the daemons when nothing runs (kB)"""
    daemons = memory_of(pid for pid, comm in by_pid().items() if comm in ("dockerd", "containerd"))
    result = {"daemons": daemons}
    for engine in ENGINES:
        names = [f"memory{i}" for i in range(SUPERVISED)]
        before = by_pid()
        try:
            for name in names:
                engine.run(name).call()
            time.sleep(2)
            new = {pid: comm for pid, comm in by_pid().items() if pid not in before and comm != "sleep"}
            result[engine.name] = memory_of(new)
        finally:
            engine.rm(names).call()
    return result


def by_pid() -> dict[int, str]:
    return {int(pid): comm for pid, comm in (entry.split(" ", 1) for entry in processes())}


def memory_of(pids) -> dict[str, dict[str, float]]:
    """Means per program, from smaps_rollup."""
    found = defaultdict(list)
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kb = {key: int(value) * 1.024 for key, value in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}
        found[Path(f"/proc/{pid}/comm").read_text().strip()].append(kb)
    keys = {"pss": "Pss", "private": "Private_Dirty", "rss": "Rss"}
    return {
        comm: {"count": len(all_)} | {name: sum(kb[key] for kb in all_) / len(all_) for name, key in keys.items()}
        for comm, all_ in found.items()
    }


CASES = oci.CASES | network.CASES | images.CASES | {"none": none, "bridge": bridge, "exec": exec_, "ps": ps, "many": many, "start": start, "memory": memory}

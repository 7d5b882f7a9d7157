"""The OCI runtimes and the floor on one bundle: every step of a life, with and without a filter, with few and with all controllers."""

import concurrent.futures
import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

from peers import BUNDLES, FILTER, floor_groups, runtime_bundles, write_filter
from sampling import BENCH, CGROUPS, Command, compare, processor_time_file, sample, summary

RUNTIMES = {"tare": (str(BENCH / "tare"), "oci"), "crun": ("crun",), "runc": ("runc",)}
FLOOR = str(BENCH / "floor")
SOCKETS = Path("/run/floor")
AT_ONCE = 8


class Kind:
    """One way to configure the bundle, with a copy of it for each runtime (a group of its own)."""

    def __init__(self, name: str, seccomp: bool, controllers: str = "all"):
        self.name, self.view = name, "peers" if controllers == "all" else "few"
        self.bundles = {}
        for runtime, sleeping in ((r, s) for r in RUNTIMES for s in (False, True)):
            config = json.loads((BUNDLES / f"{runtime}{'-sleep' if sleeping else ''}" / "config.json").read_text())
            if not seccomp:
                config["linux"].pop("seccomp", None)
            if controllers == "few":
                # The rest needs other controllers.
                config["linux"]["resources"] = {"devices": config["linux"]["resources"]["devices"]}
            config["linux"]["cgroupsPath"] = f"/bench/{name}-{runtime}{int(sleeping)}"
            bundle = BUNDLES / f"{name}-{runtime}{'-sleep' if sleeping else ''}"
            shutil.rmtree(bundle, ignore_errors=True)
            bundle.mkdir(parents=True)
            (bundle / "config.json").write_text(json.dumps(config))
            self.bundles[runtime, sleeping] = str(bundle)
        flags, dirs = floor_groups()
        if controllers == "few":
            dirs = [dir_ for dir_ in dirs if dir_.name in ("cpuset", "devices")]
        for dir_ in dirs:
            (dir_ / "bench").mkdir(exist_ok=True)
        self.groups = [*flags, "-c", ",".join(str(dir_ / "bench") for dir_ in dirs)]
        self.filter = ["-s", str(FILTER)] if seccomp else []

    def run(self, runtime: str, id_: str = "") -> Command:
        if runtime == "floor":
            return Command((FLOOR, *self.groups, *self.filter, str(BENCH / "rootfs"), "/bin/true"), self.view)
        return Command((*RUNTIMES[runtime], "run", "-b", self.bundles[runtime, False], f"{self.name}-{runtime}{id_}"), self.view)


def prepared() -> dict[str, Kind]:
    runtime_bundles(*RUNTIMES)
    write_filter()
    SOCKETS.mkdir(exist_ok=True)
    kinds = [Kind("seccomp", True), Kind("plain", False), Kind("few", True, "few")]
    return {kind.name: kind for kind in kinds}


def oci_run(rounds: int) -> dict:
    """oci run of true: with the filter and all controllers, without the filter, and with two controllers; each after a rest"""
    commands = {}
    for kind in prepared().values():
        commands |= {f"{runtime}, {kind.name}": kind.run(runtime) for runtime in (*RUNTIMES, "floor")}
    return compare(commands, rounds)


def oci_loop(rounds: int) -> dict:
    """oci run of true with the filter and all controllers, one after the other without a rest"""
    kind = prepared()["seccomp"]
    rows = {runtime: [] for runtime in (*RUNTIMES, "floor")}
    # In stretches, so that what one leaves to the kernel is its own burden and not another's.
    for _ in range(max(1, rounds // 10)):
        for runtime in random.sample(list(rows), len(rows)):
            rows[runtime] += [one for one in stretch(lambda _: kind.run(runtime), 12, 1)[2:]]
    return {runtime: quantities(all_) for runtime, all_ in rows.items()}


def oci_crowd(rounds: int) -> dict:
    """oci run of true with the filter and all controllers, 8 at once"""
    kind = prepared()["seccomp"]
    rows = {runtime: [] for runtime in (*RUNTIMES, "floor")}
    for _ in range(max(1, rounds // 12)):
        for runtime in random.sample(list(rows), len(rows)):
            # A bundle names one group: at once they need one each.
            rows[runtime] += stretch(lambda i: crowd_run(kind, runtime, i), 6 * AT_ONCE, AT_ONCE)
    return {runtime: quantities(all_) for runtime, all_ in rows.items()}


def crowd_run(kind: Kind, runtime: str, number: int) -> Command:
    if runtime == "floor":
        return kind.run(runtime)
    source = Path(kind.bundles[runtime, False])
    bundle = BUNDLES / f"crowd-{runtime}-{number}"
    if not bundle.exists():
        bundle.mkdir()
        config = json.loads((source / "config.json").read_text())
        config["linux"]["cgroupsPath"] = f"/bench/crowd-{runtime}-{number}"
        (bundle / "config.json").write_text(json.dumps(config))
    return Command((*RUNTIMES[runtime], "run", "-b", str(bundle), f"crowd-{runtime}-{number}"), kind.view)


def stretch(command_of, count: int, width: int) -> list[dict]:
    """Wall time and peak memory of each; processor time is that of all, shared out."""
    commands = [command_of(i) for i in range(count)]
    before = processor_time()
    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        timed = list(pool.map(quick, commands))
    time.sleep(0.2)
    cpu = (processor_time() - before) / count
    return [{"wall": wall, "cpu": cpu, "rss": rss} for wall, rss in timed]


def quick(command: Command) -> tuple[float, float]:
    """As sampling.sample, but without waiting for quiet."""
    one = sample(command, rest_ms=0, settle=False)
    return one["wall"], one["rss"]


def processor_time() -> float:
    text = processor_time_file().read_text()
    return float(text.split()[1]) / 1e3 if text.startswith("usage_usec") else float(text) / 1e6


def oci_steps(rounds: int) -> dict:
    """the steps of a life with the filter and all controllers: create, start, exec, delete"""
    kind = prepared()["seccomp"]
    rows: dict[str, list] = {}
    for turn in range(-2, rounds):
        for runtime in random.sample([*RUNTIMES, "floor"], len(RUNTIMES) + 1):
            for step, one in life(kind, runtime).items():
                if turn >= 0:
                    rows.setdefault(f"{runtime}, {step}", []).append(one)
    return {name: quantities(rows[name]) for name in sorted(rows, key=lambda name: name.split(", ")[1])}


def life(kind: Kind, runtime: str) -> dict[str, dict]:
    if runtime == "floor":
        return floor_life(kind)
    command, id_ = RUNTIMES[runtime], f"life-{runtime}"
    of = lambda *arguments: Command((*command, *arguments), kind.view)  # noqa: E731
    pid_file = Path(f"/run/{id_}.pid")
    steps = {"create": sample(of("create", "-b", kind.bundles[runtime, True], "--pid-file", str(pid_file), id_))}
    steps["start"] = sample(of("start", id_))
    steps["exec"] = sample(of("exec", id_, "/bin/true"))
    end(int(pid_file.read_text()))
    steps["delete"] = sample(of("delete", id_))
    return steps


def floor_life(kind: Kind) -> dict[str, dict]:
    path = SOCKETS / "gate"
    path.unlink(missing_ok=True)
    of = lambda *arguments: Command((FLOOR, *arguments), kind.view)  # noqa: E731
    rootfs = str(BENCH / "rootfs")
    steps = {"create": sample(of("-w", str(path), "-n", "life", *kind.groups, *kind.filter, rootfs, "/bin/sleep", "100000"))}
    pid = Path(f"{path}.pid").read_text()
    steps["start"] = sample(of("-o", str(path)))
    groups = [*kind.groups[:-1], ",".join(f"{dir_}/life" for dir_ in kind.groups[-1].split(","))]
    steps["exec"] = sample(of("-e", pid, *groups, *kind.filter, "/bin/true"))
    end(int(pid))
    steps["delete"] = sample(of("-d", "-n", "life", *kind.groups))
    return steps


def end(pid: int) -> None:
    process = os.pidfd_open(pid)
    os.kill(pid, 9)
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.002)
    os.close(process)
    # Its namespaces are still being taken down.
    time.sleep(0.05)


def oci_small(_rounds: int) -> dict:
    """a container under a memory limit of 1 MiB: of 20 starts, how many run"""
    result = {}
    kind = prepared()["seccomp"]
    for runtime in RUNTIMES:
        bundle = Path(kind.bundles[runtime, False])
        config = json.loads((bundle / "config.json").read_text())
        config["linux"]["resources"]["memory"] = {"limit": 1 << 20, "swap": 1 << 20}
        (bundle / "config.json").write_text(json.dumps(config))
        command = kind.run(runtime, "small")
        done = [subprocess.run(command.wrapped(), stdin=subprocess.DEVNULL, capture_output=True) for _ in range(20)]
        result[runtime] = {"runs": sum(one.returncode == 0 for one in done), "of": len(done)}
        subprocess.run(Command((*RUNTIMES[runtime], "delete", "-f", f"{kind.name}-{runtime}small"), kind.view).wrapped(), capture_output=True)
    return result


def quantities(all_: list[dict]) -> dict:
    return {quantity: summary([one[quantity] for one in all_]) for quantity in ("wall", "cpu", "rss")}


CASES = {"oci-run": oci_run, "oci-loop": oci_loop, "oci-crowd": oci_crowd, "oci-steps": oci_steps, "oci-small": oci_small}

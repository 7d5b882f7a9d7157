"""The engines, the runtimes and the floor, as commands."""

import copy
import ctypes
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from sampling import BENCH, CGROUPS, Command

BUNDLES = Path("/run/bundles")
FILTER = BENCH / "filter"


@dataclass(frozen=True)
class Engine:
    """A command line like docker's."""

    name: str
    program: str
    image: str
    remove: tuple[str, ...]
    view: str

    def command(self, *arguments: str) -> Command:
        return Command((self.program, *arguments), self.view)

    def run(self, name: str, network: str = "none") -> Command:
        """A container that sleeps."""
        return self.command("run", "-d", "--name", name, "--network", network, self.image, "sleep", "100000")

    def rm(self, names: list[str]) -> Command:
        return self.command("rm", *self.remove, *names)

    def run_true(self, network: str) -> Command:
        return self.command("run", "--rm", "--network", network, self.image, "true")


TARE = Engine("tare", str(BENCH / "tare"), "bench:1", ("-f",), "")
PODMAN = Engine("podman", "podman", "localhost/bench:1", ("-f", "-t0"), "peers")
DOCKER = Engine("docker", "docker", "bench:1", ("-f",), "peers")
ENGINES = (TARE, PODMAN, DOCKER)


def runtime_bundles(*runtimes: str) -> dict[str, Path]:
    """A bundle for each, with the configuration that dockerd makes (capabilities, seccomp, masks, device rules) less its hooks and
    the files that it binds, over the same root filesystem; and one that sleeps, as NAME-sleep."""
    id_ = DOCKER.run("bundle").call()
    config = json.loads(Path(f"/run/containerd/io.containerd.runtime.v2.task/moby/{id_}/config.json").read_text())
    DOCKER.rm(["bundle"]).call()
    config.pop("hooks", None)
    config["linux"].pop("mountLabel", None)
    config["root"] = {"path": str(BENCH / "rootfs")}
    config["process"].update(terminal=False, cwd="/")
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "bind"]
    shm = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]}
    if all(mount["destination"] != "/dev/shm" for mount in config["mounts"]):
        config["mounts"].append(shm)
    bundles = {}
    for runtime in runtimes:
        for name, arguments in ((runtime, ["/bin/true"]), (f"{runtime}-sleep", ["/bin/sleep", "100000"])):
            own = copy.deepcopy(config)
            own["process"]["args"] = arguments
            own["linux"]["cgroupsPath"] = f"/bench/{name}"
            bundles[name] = BUNDLES / name
            shutil.rmtree(bundles[name], ignore_errors=True)
            bundles[name].mkdir(parents=True)
            (bundles[name] / "config.json").write_text(json.dumps(own))
    return bundles


def runtime_run(runtime: str, bundle: Path) -> Command:
    return Command((runtime, "run", "-b", str(bundle), f"bench-{runtime}"), "peers")


def floor_groups() -> tuple[list[str], list[Path]]:
    """The flags of floor for this host's layout, and the directories: each v1 controller's, or the one of v2."""
    v1 = [dir_ for dir_ in sorted(CGROUPS.iterdir()) if (dir_ / "tasks").exists()]
    return ([], v1) if v1 else (["-2"], [CGROUPS])


def floor_run() -> Command:
    flags, dirs = floor_groups()
    parents = []
    for dir_ in dirs:
        (dir_ / "bench").mkdir(exist_ok=True)
        parents.append(str(dir_ / "bench"))
        if flags:
            (dir_ / "bench/cgroup.subtree_control").write_text("+memory +pids")
    write_filter()
    return Command((str(BENCH / "floor"), *flags, "-c", ",".join(parents), "-s", str(FILTER), str(BENCH / "rootfs"), "/bin/true"))


def floor_exec(engine: Engine, container: str) -> Command:
    """Into a container of an engine: its namespaces, its groups, its filter."""
    pid = int(engine.command("inspect", "--format", "{{.State.Pid}}", container).call())
    flags, dirs = floor_groups()
    own = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    groups = [f"{dir_}{own.get('' if flags else dir_.name, '')}" for dir_ in dirs]
    write_filter()
    return Command((str(BENCH / "floor"), "-e", str(pid), *flags, "-c", ",".join(groups), "-s", str(FILTER), "/bin/true"))


def write_filter() -> None:
    """The system call filter of a container of tare, as the kernel has it, so that floor loads the same."""
    if FILTER.exists():
        return
    TARE.run("filter").call()
    pid = int(TARE.command("inspect", "--format", "{{.State.Pid}}", "filter").call())
    seize, detach, get_filter, wait_all = 0x4206, 17, 0x420C, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request: int, data) -> int:
        result = libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(0), data)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {pid}")
        return result

    ptrace(seize, ctypes.c_void_p(0))
    ptrace(0x4207, ctypes.c_void_p(0))  # PTRACE_INTERRUPT: the filter is read from a stopped process
    os.waitpid(pid, wait_all)
    instructions = ctypes.create_string_buffer(8 * ptrace(get_filter, ctypes.c_void_p(0)))
    ptrace(get_filter, instructions)
    ptrace(detach, ctypes.c_void_p(0))
    FILTER.write_bytes(instructions.raw)
    TARE.rm(["filter"]).call()

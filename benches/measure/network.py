"""Networks: what one costs at a container's start, what a published port costs, what passes through, how fast names are found."""

import json
import os
import random
import subprocess
import time
from pathlib import Path

from peers import DOCKER, ENGINES, TARE, Engine
from sampling import BENCH, Command, sample, summary

SECONDS = "2"  # of traffic, for one figure
CROWD = 300
PORTS = 1000
BASE_PORT = 20000
PORT = "7000"
DEVICES = Path("/sys/class/net")
FLOW = str(BENCH / "flow")


def run(engine: Engine, network: str, *words: str, flags: tuple[str, ...] = ()) -> Command:
    return engine.command("run", "--rm", "--network", network, *flags, engine.image, *words)


def address(engine: Engine, name: str) -> str:
    networks = json.loads(engine.command("inspect", name).call())[0]["NetworkSettings"]["Networks"]
    return next(network["IPAddress"] for network in networks.values() if network["IPAddress"])


def background(engine: Engine, name: str, *words: str, network: str = "bridge", flags: tuple[str, ...] = ()) -> None:
    engine.command("run", "-d", "--name", name, "--network", network, *flags, engine.image, *words).call()


def starts(commands: dict[str, Command], rounds: int, watch: bool = False) -> dict:
    """In turns: until the container's first instruction, until its first connection, until the client returns (ms each), processor
    time of all; with `watch`, until the host's devices are those from before."""
    taken: dict[str, list[dict]] = {name: [] for name in commands}
    order = list(commands)
    for turn in range(-2, rounds):
        random.shuffle(order)
        for name in order:
            before = len(os.listdir(DEVICES))
            one = sample(commands[name], settle=not watch)
            returned = time.monotonic()
            if watch:
                while len(os.listdir(DEVICES)) > before and time.monotonic() < returned + 10:
                    time.sleep(0.001)
            begun, connected = (int(n) / 1e6 for n in one["printed"].split())
            row = {"first": begun - one["start"], "wall": one["wall"], "cpu": one["cpu"]}
            row |= {"gone": (time.monotonic() - returned) * 1e3} if watch else {}
            row |= {"packet": connected - begun} if connected else {}
            if turn >= 0:
                taken[name].append(row)
    return {name: {q: summary([one[q] for one in all_]) for q in all_[0]} for name, all_ in taken.items()}


def net_start(rounds: int) -> dict:
    """a container's start with and without a network, beside one that runs already; and how long its devices stay"""
    commands = {}
    try:
        for engine in ENGINES:
            background(engine, "beside", "sleep", "100000")
            commands |= {f"{engine.name}, {network}": run(engine, network, "stamp") for network in ("none", "bridge")}
        result = starts(commands, rounds)
        teardown = starts({engine.name: run(engine, "bridge", "stamp") for engine in ENGINES}, rounds, watch=True)
        return result | {f"{name}, gone": row for name, row in teardown.items()}
    finally:
        for engine in ENGINES:
            engine.rm(["beside"]).call()


def net_crowd(rounds: int) -> dict:
    """a container's start with and without a network, beside 300 that run on the bridge"""
    names = [f"crowd{i}" for i in range(CROWD)]
    template = TARE.run("{}", "bridge").wrapped()
    try:
        subprocess.run(["xargs", "-P8", "-I{}", *template], input="\n".join(names), text=True, check=True, capture_output=True)
        return starts({f"tare, {network}": run(TARE, network, "stamp") for network in ("none", "bridge")}, rounds)
    finally:
        TARE.rm(names).call()


def net_packet(rounds: int) -> dict:
    """the first packet: a TCP connection to the host, asked for by the container's first instruction"""
    server = subprocess.Popen([FLOW, "serve", PORT])
    try:
        commands = {}
        for engine in ENGINES:
            background(engine, "beside", "sleep", "100000")
            networks = json.loads(engine.command("inspect", "beside").call())[0]["NetworkSettings"]["Networks"]
            gateway = next(network["Gateway"] for network in networks.values() if network["Gateway"])
            commands[engine.name] = run(engine, "bridge", "stamp", gateway, PORT)
        return starts(commands, rounds)
    finally:
        server.kill()
        for engine in ENGINES:
            engine.rm(["beside"]).call()


def net_connect(rounds: int) -> dict:
    """network connect and disconnect of a running container"""
    taken: dict[str, list] = {}
    try:
        for engine in ENGINES:
            engine.command("network", "create", "further").call()
            background(engine, "beside", "sleep", "100000")
        for turn in range(-1, rounds):
            for engine in random.sample(ENGINES, len(ENGINES)):
                for verb in ("connect", "disconnect"):
                    one = sample(engine.command("network", verb, "further", "beside"))
                    if turn >= 0:
                        taken.setdefault(f"{engine.name}, {verb}", []).append(one)
        return {name: {q: summary([one[q] for one in all_]) for q in ("wall", "cpu")} for name, all_ in taken.items()}
    finally:
        for engine in ENGINES:
            engine.rm(["beside"]).call()
            engine.command("network", "rm", "further").call()


def net_ports(rounds: int) -> dict:
    """a start with one published port, where none and where 1,000 are published already; and of a container with 1,000"""
    published = f"{BASE_PORT}-{BASE_PORT + PORTS - 1}:{BASE_PORT}-{BASE_PORT + PORTS - 1}"
    one = ("-p", "19000:80")
    commands = {"none": run(TARE, "bridge", "stamp"), "one": run(TARE, "bridge", "stamp", flags=one)}
    docker = {"docker, none": run(DOCKER, "bridge", "stamp"), "docker, one": run(DOCKER, "bridge", "stamp", flags=("-p", "19001:80"))}
    background(TARE, "beside", "sleep", "100000")
    try:
        result = {f"{name} beside 0": row for name, row in starts(commands | docker, rounds).items()}
        result |= starts({"a thousand": run(TARE, "bridge", "stamp", flags=("-p", published))}, max(3, rounds // 6))
        background(TARE, "ports", "sleep", "100000", flags=("-p", published))
        result |= {f"{name} beside {PORTS}": row for name, row in starts(commands, rounds).items()}
        add = sample(TARE.command("port", "add", "beside", "19002:80"))
        return result | {"port add": {q: summary([add[q]]) for q in ("wall", "cpu")}}
    finally:
        TARE.rm(["beside", "ports"]).call()


def traffic(enter: Command | None, at: str, port: str) -> dict[str, float]:
    """Gbit/s of one stream; round trips: median and 99th percentile in µs; connections per second."""

    def flow(what: str) -> list[float]:
        words = (FLOW, what, at, port, SECONDS)
        command = Command((*enter.arguments, "flow", *words[1:]), enter.view) if enter else Command(words)
        return [float(n) for n in command.call().split()]

    _, median, p99 = flow("trip")
    return {"gbit": flow("bulk")[0] / 1e9, "trip": median, "trip_p99": p99, "opens": flow("open")[0]}


def net_flow(rounds: int) -> dict:
    """one TCP stream, round trips of a byte, and new connections: between containers and through published ports"""
    paths = {}
    servers = []
    at_host = "10.251.1.1"
    try:
        # A bare veth pair between two namespaces, and an address of the host that is not loopback.
        for line in (
            "netns add fa", "netns add fb", "link add va netns fa type veth peer name vb netns fb",
            "-n fa address add 10.251.0.1/24 dev va", "-n fb address add 10.251.0.2/24 dev vb",
            "-n fa link set va up", "-n fb link set vb up", "-n fa link set lo up", "-n fb link set lo up",
            "link add outer type veth peer name outer1", f"address add {at_host}/24 dev outer", "link set outer up", "link set outer1 up",
        ):
            Command(("ip", *line.split())).call()
        servers += [subprocess.Popen(["ip", "netns", "exec", name, FLOW, "serve", PORT]) for name in ("fa", "fb")]
        enter = Command(("ip", "netns", "exec", "fa", "env", f"PATH={BENCH}"))
        paths["loopback of one namespace"] = (enter, "127.0.0.1", PORT)
        paths["bare veth pair"] = (enter, "10.251.0.2", PORT)
        for i, engine in enumerate(ENGINES):
            port = str(18100 + i)
            background(engine, "server", "flow", "serve", PORT, flags=("-p", f"{port}:{PORT}"))
            background(engine, "client", "sleep", "100000")
            paths[f"{engine.name}, container to container"] = (engine.command("exec", "client"), address(engine, "server"), PORT)
            paths[f"{engine.name}, published"] = (None, at_host, port)
            paths[f"{engine.name}, published on 127.0.0.1"] = (None, "127.0.0.1", port)
            if engine is not DOCKER or Path("/proc/net/if_inet6").exists():
                paths[f"{engine.name}, published on ::1"] = (None, "::1", port)
        time.sleep(1)
        taken: dict[str, list] = {name: [] for name in paths}
        for _ in range(max(3, rounds // 10)):
            for name in random.sample(list(paths), len(paths)):
                try:
                    taken[name].append(traffic(*paths[name]))
                except SystemExit as e:
                    # Not every peer publishes on ::1.
                    if "::1" not in name or name.startswith("tare"):
                        raise
                    print(e)
        return {name: {q: summary([one[q] for one in all_]) for q in all_[0]} for name, all_ in taken.items() if all_}
    finally:
        for server in servers:
            server.kill()
        for engine in ENGINES:
            engine.rm(["server", "client"]).call()
        for line in ("netns delete fa", "netns delete fb", "link delete outer"):
            Command(("ip", *line.split())).call()


def net_names(rounds: int) -> dict:
    """answers to questions for another container's name, one at a time"""
    paths = {}
    try:
        for engine in ENGINES:
            engine.command("network", "create", "names").call()
            background(engine, "server", "sleep", "100000", network="names")
            background(engine, "client", "sleep", "100000", network="names")
            text = engine.command("exec", "client", "cat", "/etc/resolv.conf").call()
            server = next(line.split()[1] for line in text.splitlines() if line.startswith("nameserver"))
            paths[engine.name] = engine.command("exec", "client", "flow", "names", server, "server", SECONDS)
        taken: dict[str, list] = {name: [] for name in paths}
        for _ in range(max(3, rounds // 10)):
            for name in random.sample(list(paths), len(paths)):
                rate, median, p99 = (float(n) for n in paths[name].call().split())
                taken[name].append({"answers": rate, "median": median, "p99": p99})
        return {name: {q: summary([one[q] for one in all_]) for q in all_[0]} for name, all_ in taken.items()}
    finally:
        for engine in ENGINES:
            engine.rm(["server", "client"]).call()
            engine.command("network", "rm", "names").call()


CASES = {
    "net-start": net_start,
    "net-crowd": net_crowd,
    "net-packet": net_packet,
    "net-connect": net_connect,
    "net-ports": net_ports,
    "net-flow": net_flow,
    "net-names": net_names,
}

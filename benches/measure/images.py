"""Images: pulled into an empty store and removed, pulled again, started from, committed."""

import os
import random
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from peers import DOCKER, PODMAN, TARE
from sampling import BENCH, Command, compare, sample, summary

REGISTRY = "127.0.0.1:5000"
LAYOUTS = BENCH / "images"
# What the engines store lies on this file system, journalled as users' are.
DISK = Path("/disk")
LOOPBACK = Path("/sys/class/net/lo/statistics/rx_bytes")
TREES = DISK / "trees"
LARGE_ROUNDS = 5
CHANGE = 100 << 20


@dataclass(frozen=True)
class Puller:
    """How an image is got and removed; %i is its name."""

    pull: tuple[str, ...]
    remove: tuple[str, ...]
    view: str = ""

    def of(self, verb: str, image: str) -> Command:
        words = self.pull if verb == "pull" else self.remove
        return Command(tuple(word.replace("%i", f"{REGISTRY}/{image}:1").replace("%n", image) for word in words), self.view)


TARE_BINARY = str(BENCH / "tare")
CTR = ("ctr", "images")
PULLERS = {
    "tare": Puller((TARE_BINARY, "pull", "-q", "%i"), (TARE_BINARY, "rmi", "-f", "%i")),
    "tare, trees": Puller((TARE_BINARY, "--snapshotter", "overlay", "pull", "-q", "%i"), (TARE_BINARY, "rmi", "-f", "%i")),
    "podman": Puller(("podman", "pull", "-q", "%i"), ("podman", "rmi", "-f", "%i"), "peers"),
    "docker": Puller(("docker", "pull", "-q", "%i"), ("docker", "rmi", "-f", "%i"), "peers"),
    "containerd": Puller((*CTR, "pull", "--local", "--plain-http", "%i"), (*CTR, "rm", "--sync", "%i"), "peers"),
    "containerd, erofs": Puller(
        (*CTR, "pull", "--local", "--snapshotter", "erofs", "--plain-http", "%i"), (*CTR, "rm", "--sync", "%i"), "peers"
    ),
    # Fetches and keeps, but unpacks nothing.
    "skopeo": Puller(("skopeo", "copy", "-q", "--src-tls-verify=false", "docker://%i", f"oci:{DISK}/skopeo:1"), ("rm", "-rf", f"{DISK}/skopeo")),
    # Fetches, inflates, hashes both sides and writes the same bytes, with both processors, and nothing else.
    "floor": Puller((str(BENCH / "pull"), f"http://{REGISTRY}/v2/%n", f"{DISK}/floor"), ("rm", "-rf", f"{DISK}/floor")),
}


def publish(*images: str) -> None:
    """Into the registry, byte for byte."""
    for image in images:
        source, target = f"oci:{LAYOUTS / image}:1", f"docker://{REGISTRY}/{image}:1"
        Command(("skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", source, target)).call()


def timed(command: Command) -> dict:
    """With everything from before on the disk, and what went over the wire (MB; both directions pass the loopback)."""
    os.sync()
    before = int(LOOPBACK.read_text())
    one = sample(command)
    return one | {"wire": (int(LOOPBACK.read_text()) - before) / 1e6}


def pulled(image: str, rounds: int, pullers: dict[str, Puller] = PULLERS) -> dict:
    """Each round in another order; the first is not counted."""
    publish(image)
    taken: dict[str, list[dict]] = {}
    for puller in pullers.values():
        subprocess.run(puller.of("remove", image).wrapped(), capture_output=True)
    order = list(pullers)
    for turn in range(-1, rounds):
        random.shuffle(order)
        for name in order:
            pull = timed(pullers[name].of("pull", image))
            trees = unlinking(TARE_ROOT) if name == "tare" else None
            remove = timed(pullers[name].of("remove", image))
            if turn < 0:
                continue
            taken.setdefault(f"{name}, pull", []).append(pull)
            taken.setdefault(f"{name}, rmi", []).append(remove)
            if trees:
                taken.setdefault("unlinking, rmi", []).append(trees)
    return {name: {q: summary([one[q] for one in all_]) for q in ("wall", "cpu", "rss", "wire")} for name, all_ in taken.items()}


TARE_ROOT = Path("/var/lib/tare")


def unlinking(root: Path) -> dict:
    """What it takes to unlink the files that a pull has made: of a copy."""
    shutil.rmtree(TREES, ignore_errors=True)
    TREES.mkdir()
    for part in ("blobs", "layers"):
        subprocess.run(["cp", "-a", "--sparse=never", str(root / part), str(TREES / part)], check=True)
    return timed(Command(("rm", "-rf", str(TREES))))


def img_tiny(rounds: int) -> dict:
    """an image of one layer, 2 MB, pulled into an empty store, and removed"""
    return pulled("tiny", rounds)


def img_debian(rounds: int) -> dict:
    """an image of one layer, 122 MB, pulled into an empty store, and removed"""
    return pulled("debian", min(rounds, 2 * LARGE_ROUNDS))


def img_real(rounds: int) -> dict:
    """an image of 8 layers, 65,000 entries, 700 MB, gzip, pulled into an empty store, and removed"""
    return pulled("real", min(rounds, LARGE_ROUNDS))


def img_realz(rounds: int) -> dict:
    """the same image compressed with zstd"""
    return pulled("realz", min(rounds, LARGE_ROUNDS))


def img_again(rounds: int) -> dict:
    """pull of an image that is there already"""
    publish("real")
    names = ("tare", "podman", "docker", "containerd")
    for name in names:
        PULLERS[name].of("pull", "real").call()
    try:
        return compare({name: PULLERS[name].of("pull", "real") for name in names}, rounds)
    finally:
        for name in names:
            PULLERS[name].of("remove", "real").call()


def img_sibling(rounds: int) -> dict:
    """pull of an image that shares 7 of its 8 layers with one that is there"""
    publish("real", "sibling")
    names = ("tare", "podman", "docker", "containerd, erofs")
    for name in names:
        PULLERS[name].of("pull", "real").call()
    try:
        return pulled("sibling", min(rounds, 2 * LARGE_ROUNDS), {name: PULLERS[name] for name in names})
    finally:
        for name in names:
            PULLERS[name].of("remove", "real").call()


def img_depth(rounds: int) -> dict:
    """run --rm of true on an image of 127 layers and on one of 1, another container of each running"""
    publish("flat", "deep")
    # docker refuses to pull it: "max depth exceeded".
    engines = {"tare": TARE, "podman": PODMAN}
    commands = {}
    try:
        for name, engine in engines.items():
            for image in ("flat", "deep"):
                PULLERS[name].of("pull", image).call()
                reference = f"{REGISTRY}/{image}:1"
                engine.command("run", "-d", "--name", f"beside-{image}", "--network", "none", reference, "sleep", "100000").call()
                commands[f"{name}, {image}"] = engine.command("run", "--rm", "--network", "none", reference, "true")
        return compare(commands, rounds)
    finally:
        for name, engine in engines.items():
            engine.rm(["beside-flat", "beside-deep"]).call()
            for image in ("flat", "deep"):
                PULLERS[name].of("remove", image).call()


def img_commit(rounds: int) -> dict:
    """commit of a change of 200 MB, half of it noise and half text"""
    noise, text = DISK / "noise", DISK / "text"
    noise.write_bytes(random.Random(3).randbytes(CHANGE))
    source = (BENCH / "layers/small.tar").read_bytes()[: 50 << 20]
    text.write_bytes((source * (CHANGE // len(source) + 1))[:CHANGE])
    engines = {"tare": TARE, "podman": PODMAN, "docker": DOCKER}
    taken: dict[str, list[dict]] = {}
    for turn in range(-1, min(rounds, 2 * LARGE_ROUNDS)):
        for name in random.sample(list(engines), len(engines)):
            engine = engines[name]
            engine.command("run", "-d", "--name", "changed", "--network", "none", engine.image, "sleep", "100000").call()
            try:
                for path in (noise, text):
                    engine.command("cp", str(path), f"changed:/{path.name}").call()
                # Different each time, so that nothing of it is there already.
                engine.command("exec", "changed", "sh", "-c", f"echo {time.monotonic_ns()} | tee -a /noise >> /text; sync").call()
                flags = ("-q",) if name == "podman" else ()
                one = timed(engine.command("commit", *flags, "changed", "committed:1"))
            finally:
                engine.rm(["changed"]).call()
            engine.command("rmi", "committed:1").call()
            if turn >= 0:
                taken.setdefault(name, []).append(one)
    return {name: {q: summary([one[q] for one in all_]) for q in ("wall", "cpu", "rss")} for name, all_ in taken.items()}


CASES = {
    "img-tiny": img_tiny,
    "img-debian": img_debian,
    "img-real": img_real,
    "img-realz": img_realz,
    "img-again": img_again,
    "img-sibling": img_sibling,
    "img-depth": img_depth,
    "img-commit": img_commit,
}

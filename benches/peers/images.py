"""Makes the images that benches/images moves about, as OCI layouts below /bench/images. Runs in the tree of the box.

tiny      busybox, one layer
debian    Debian 12, one layer
real      eight layers, 65,000 entries, 700 MB: Debian, Python, settings, 60,000 small files, 300 MB in two large ones, an
          application, a layer that mostly deletes, a start script; gzip as docker does it
realz     the same layers, zstd
sibling   real with another last layer
deep      127 layers of one file each over tiny's; flat: tiny's and one more
"""

import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

IMAGES = Path("/bench/images")
LAYERS = Path("/bench/layers")
TIME = 1_700_000_000
SMALL_FILES = 60_000
DEPTH = 127
PATHS = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Layer:
    """A tar archive with everything of one time and one owner."""

    def __init__(self, path: Path):
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)
        self.directories: set[str] = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tar.close()

    def add(self, name: str, content: bytes = b"", mode: int = 0o644, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
        parent = os.path.dirname(name)
        if parent and parent not in self.directories:
            self.add(parent, mode=0o755, kind=tarfile.DIRTYPE)
        if kind == tarfile.DIRTYPE:
            self.directories.add(name)
        entry = tarfile.TarInfo(name)
        entry.mtime, entry.mode, entry.type, entry.linkname, entry.size = TIME, mode, kind, link, len(content)
        self.tar.addfile(entry, io.BytesIO(content))

    def copy(self, top: Path, below: Path) -> None:
        """A tree of the machine's, under the same names."""
        for path in sorted(below.rglob("*")):
            name = str(path.relative_to(top))
            if "__pycache__" in name:
                continue
            if path.is_symlink():
                self.add(name, mode=0o777, kind=tarfile.SYMTYPE, link=os.readlink(path))
            elif path.is_file():
                self.add(name, path.read_bytes(), path.stat().st_mode & 0o7777)


def text() -> bytes:
    """Some 20 MB of source code, so that what is made compresses as software does."""
    out = bytearray()
    for path in sorted(Path(os.__file__).parent.rglob("*.py")):
        out += path.read_bytes()
    return bytes(out)


def piece(source: bytes, dice: random.Random, size: int) -> bytes:
    at = dice.randrange(len(source) - size)
    return source[at : at + size]


def small_files(layer: Layer, source: bytes) -> None:
    """Packages in packages, as package managers of scripting languages leave them: most files below 2 kB."""
    dice = random.Random(7)
    made = package = 0
    while made < SMALL_FILES:
        at = f"app/modules/package{package:04}" + (f"/modules/inner{package:04}" if dice.random() < 0.2 else "")
        package += 1
        for folder in ("", "/lib", "/dist", "/dist/esm")[: dice.randint(1, 4)]:
            for number in range(int(dice.expovariate(1 / 14)) + 1):
                size = min(int(dice.lognormvariate(7.3, 1.3)), 400_000)
                layer.add(f"{at}{folder}/file{number}.js", piece(source, dice, size))
                made += 1
    for number in range(120):
        layer.add(f"app/modules/.bin/tool{number}", mode=0o777, kind=tarfile.SYMTYPE, link=f"../package{number:04}/file0.js")


def large_files(layer: Layer, source: bytes) -> None:
    dice = random.Random(9)
    layer.add("opt/model.bin", dice.randbytes(200 << 20))
    words = bytearray()
    while len(words) < 100 << 20:
        words += piece(source, dice, dice.randrange(200, 65536))
    layer.add("opt/library.txt", bytes(words[: 100 << 20]))


def application(layer: Layer, source: bytes) -> None:
    for number in range(500):
        layer.add(f"app/src/m{number % 20:02}/f{number:03}.py", source[number * 9000 : number * 9000 + 5000])


def deletions(layer: Layer, _source: bytes) -> None:
    layer.add("app/CHANGES", b"fewer\n")
    for number in range(60):
        layer.add(f"app/src/m{number % 20:02}/.wh.f{number:03}.py")
    layer.add("app/modules/.wh.package0010")


def busybox(layer: Layer, _source: bytes) -> None:
    for path in ("dev", "etc", "proc", "root", "sys", "var"):
        layer.add(path, mode=0o755, kind=tarfile.DIRTYPE)
    layer.add("tmp", mode=0o1777, kind=tarfile.DIRTYPE)
    program = Path("/bin/busybox")
    layer.add("bin/busybox", program.read_bytes(), 0o755)
    for name in subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            layer.add(f"bin/{name}", mode=0o777, kind=tarfile.SYMTYPE, link="busybox")
    layer.add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    layer.add("etc/group", b"root:x:0:\n")


def one_file(name: str, content: bytes, mode: int = 0o644):
    return lambda layer, _source: layer.add(name, content, mode)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made(name: str, fill, source: bytes) -> Path:
    path = LAYERS / f"{name}.tar"
    if not path.exists():
        part = path.with_suffix(".part")
        with Layer(part) as layer:
            fill(layer, source)
        part.rename(path)
    return path


def layout(name: str, layers: list[Path], compression: str, command: list[str]) -> None:
    place = IMAGES / name
    if (place / "index.json").exists():
        return
    blobs = place / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(document: dict) -> dict:
        data = json.dumps(document, separators=(",", ":")).encode()
        hexadecimal = hashlib.sha256(data).hexdigest()
        (blobs / hexadecimal).write_bytes(data)
        return {"digest": f"sha256:{hexadecimal}", "size": len(data)}

    descriptors, diff_ids = [], []
    for path in layers:
        part = blobs / "part"
        if compression == "gzip":
            with path.open("rb") as source, gzip.GzipFile("", "wb", 6, part.open("wb"), mtime=0) as target:
                while piece_ := source.read(1 << 20):
                    target.write(piece_)
        else:
            subprocess.run(["zstd", "-q", "-3", "-f", str(path), "-o", str(part)], check=True)
        hexadecimal = digest(part)
        part.rename(blobs / hexadecimal)
        size = (blobs / hexadecimal).stat().st_size
        media = f"application/vnd.oci.image.layer.v1.tar+{compression}"
        descriptors.append({"mediaType": media, "digest": f"sha256:{hexadecimal}", "size": size})
        diff_ids.append(f"sha256:{digest(path)}")
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2025-01-01T00:00:00Z",
        "config": {"Env": [PATHS], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2025-01-01T00:00:00Z", "created_by": path.name} for path in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json"} | put(config),
        "layers": descriptors,
    }
    entry = {"mediaType": manifest["mediaType"], "annotations": {"org.opencontainers.image.ref.name": "1"}} | put(manifest)
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    print(f"{name}: {len(layers)} layers, {sum(d['size'] for d in descriptors) / 1e6:.0f} MB compressed", flush=True)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    LAYERS.mkdir(exist_ok=True)
    debian = Path(sys.argv[1])
    source = text()
    tiny = made("tiny", busybox, source)
    settings = {f"etc/app/{n:02}.conf": source[n * 500 : n * 500 + 400] for n in range(40)}
    start = b'#!/bin/sh\nexec "$@"\n'
    real = [
        debian,
        made("python", lambda layer, _: layer.copy(Path("/"), Path(os.__file__).parent), source),
        made("settings", lambda layer, _: [layer.add(*pair) for pair in settings.items()], source),
        made("small", small_files, source),
        made("large", large_files, source),
        made("application", application, source),
        made("deletions", deletions, source),
        made("start", one_file("usr/local/bin/start", start, 0o755), source),
    ]
    sibling = [*real[:-1], made("other", one_file("usr/local/bin/other", start, 0o755), source)]
    deep = [made(f"deep{n}", one_file(f"deep/{n:03}", b"%d\n" % n), source) for n in range(DEPTH - 1)]
    layout("tiny", [tiny], "gzip", ["/bin/sh"])
    layout("debian", [debian], "gzip", ["/bin/bash"])
    layout("real", real, "gzip", ["/bin/bash"])
    layout("sibling", sibling, "gzip", ["/bin/bash"])
    layout("realz", real, "zstd", ["/bin/bash"])
    layout("flat", [tiny], "gzip", ["/bin/true"])
    layout("deep", [tiny, *deep], "gzip", ["/bin/true"])


main()

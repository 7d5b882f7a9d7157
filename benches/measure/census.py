"""What a container may leave behind, counted before and after."""

import os
import sqlite3
import subprocess
import time
from pathlib import Path

from sampling import CGROUPS

STATE = Path("/var/lib/tare")
PATIENCE_S = 15


def census() -> dict[str, set[str]]:
    return {
        "control groups": {dir_ for dir_, _, _ in os.walk(CGROUPS)},
        "links": set(os.listdir("/sys/class/net")),
        "rules": numbered(subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout),
        "mounts": mounts(),
        "processes": processes(),
        "files": {str(path) for top in (Path("/run/tare"), STATE / "containers") for path in top.rglob("*")},
        "rows": rows(),
    }


def left_over(before: dict[str, set[str]]) -> dict[str, list[str]]:
    """What is there now and was not before; the kernel and the daemons get some seconds to finish."""
    end = time.monotonic() + PATIENCE_S
    while True:
        now = census()
        left = {kind: sorted(now[kind] - before[kind])[:20] for kind in now if now[kind] - before[kind]}
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.2)


def numbered(text: str) -> set[str]:
    """Equal lines stay apart."""
    seen: dict[str, int] = {}
    for line in text.splitlines():
        if "counter packets" not in line:
            seen[line.strip()] = seen.get(line.strip(), 0) + 1
    return {f"{line} #{i}" for line, count in seen.items() for i in range(count)}


def mounts() -> set[str]:
    """Of every mount namespace of the box: one that is pinned shows as a mount itself."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found[os.readlink(process / "ns/mnt")] = (process / "mountinfo").read_text()
        except OSError:
            continue
    return {" ".join(line.split()[2:6]) for text in found.values() for line in text.splitlines()}


def processes() -> set[str]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "exe").exists():
                found.add(f"{process.name} {(process / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found


def rows() -> set[str]:
    database = STATE / "state.db"
    if not database.exists():
        return set()
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables}
    return {f"{table} #{i}" for table, count in counts.items() if not table.startswith("sqlite_") for i in range(count)}

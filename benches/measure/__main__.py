"""Runs cases in the box: python3 measure ROUNDS COMMIT CASE... Results go to /bench/results."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from cases import CASES
from report import machine_line, specification, table
from sampling import CGROUPS

RESULTS = Path("/bench/results")
PACKAGES = {"podman": "podman", "conmon": "conmon", "docker": "docker.io", "containerd": "containerd", "crun": "crun", "runc": "runc"}


def machine(commit: str) -> dict:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    v1, v2 = any(CGROUPS.glob("*/tasks")), any(CGROUPS.glob("**/cgroup.controllers"))
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PACKAGES.values()], check=True, capture_output=True, text=True
    ).stdout
    versions = dict(line.split() for line in listed.splitlines())
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit,
        "kernel": re.match(r"[\d.]+", os.uname().release)[0],
        "cores": os.cpu_count(),
        "cpu": re.search(r"^model name\s*: (.*)$", cpuinfo, re.M)[1],
        "virtual": re.search(r"^flags.*\bhypervisor\b", cpuinfo, re.M) is not None,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "cgroups": "cgroup v1 and v2 side by side (the peers see v1 only)" if v1 and v2 else "cgroup v1" if v1 else "cgroup v2",
        "load": os.getloadavg()[0],
        "peers": {name: re.sub(r"^\d+:|[+~-].*", "", versions[package]) for name, package in PACKAGES.items()},
    }


def main() -> None:
    rounds, commit, *names = sys.argv[1:]
    here = machine(commit)
    print(machine_line(here), flush=True)
    latest = RESULTS / "latest.json"
    results = json.loads(latest.read_text()) if latest.exists() else {}
    measured = {}
    for name in names:
        case = CASES[name]
        rows = case(int(rounds))
        measured[name] = {"title": case.__doc__, "machine": here | {"load": os.getloadavg()[0]}, "rows": rows}
        print(table(name, case.__doc__, rows), flush=True)
    (RESULTS / time.strftime("%Y%m%d-%H%M%S.json")).write_text(json.dumps(measured, indent=1))
    # Cases can be measured one at a time; the newest of each counts.
    results |= measured
    latest.write_text(json.dumps(results, indent=1))
    (RESULTS / "specification.md").write_text(specification(results))
    crowd = measured.get("many", {}).get("rows", {}).get("tare")
    if crowd and (crowd["failures"] or crowd["left"]):
        sys.exit(f"benches: of {crowd['containers']} containers {crowd['failures']} failed; left: {crowd['left']}")


main()

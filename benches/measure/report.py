"""Results as a table for the terminal, and as the tables of SPECIFICATION.md."""

import images_report
import network_report
from sampling import QUANTITIES

COMMAND = "`benches/run {}`"


def table(case: str, title: str, rows: dict) -> str:
    lines = [f"\n{case}: {title}"]
    if case == "many":
        for name, row in rows.items():
            lines.append(
                f"  {name:22} {row['containers']} started in {row['start_s']:.1f} s, removed in {row['remove_s']:.1f} s, "
                f"failures {row['failures']}, left {row['left'] or 'nothing'} {row['errors'].strip()}"
            )
    elif case.startswith("net-"):
        lines += network_report.terminal(rows)
    elif case.startswith("img-"):
        lines += images_report.terminal(rows)
    elif case == "oci-small":
        lines += [f"  {name:22} {row['runs']} of {row['of']} run" for name, row in rows.items()]
    elif case == "memory":
        for name, programs in rows.items():
            for program, kb in programs.items():
                lines.append(
                    f"  {name:8} {program:16} x{kb['count']:<3} PSS {kb['pss']:8.0f} kB  private {kb['private']:8.0f} kB  "
                    f"resident {kb['rss']:8.0f} kB"
                )
    else:
        lines.append(f"  {'ms':22} {'median':>8} {'p25':>8} {'p75':>8} {'p95':>8} {'min':>8} {'all CPU':>8} {'peak MB':>8} {'n':>4}")
        for name, row in rows.items():
            wall = row["wall"]
            figures = [wall["median"], wall["p25"], wall["p75"], wall.get("p95", wall["p75"]), wall["min"], row["cpu"]["median"], row["rss"]["median"]]
            lines.append(f"  {name:22} " + " ".join(f"{figure:8.2f}" for figure in figures) + f" {wall['n']:4}")
    return "\n".join(lines)


def machine_line(machine: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["peers"].items())
    return (
        f"Measured {machine['date']} at {machine['commit']} on {machine['cores']} cores ({machine['cpu']}"
        f"{', a virtual machine that shares its host' if machine['virtual'] else ''}), {machine['memory_gb']} GB, Linux {machine['kernel']}, "
        f"{machine['cgroups']}; beside {versions}."
    )


def specification(results: dict) -> str:
    """Whole tables, with an empty cell for what has not been measured."""
    cases = {case: result["rows"] for case, result in results.items()}

    def cell(case: str, name: str, quantity: str = "wall") -> str:
        row = cases.get(case, {}).get(name)
        if not row:
            return ""
        value = row[quantity]["median"]
        return f"{value:.{1 if value < 100 else 0}f} {QUANTITIES[quantity]}"

    def line(what: str, promise: str, case: str, quantity: str = "wall", suffix: str = "") -> str:
        cells = [cell(case, name + suffix, quantity) for name in ("tare", "podman", "docker", "crun", "runc", "floor")]
        return "| " + " | ".join([what, promise, *cells, COMMAND.format(case)]) + " |"

    newest = max((result["machine"] for result in results.values()), key=lambda machine: machine["date"])
    out = [
        "`benches/run` installs the newest peers and measures all of these, in turns and in random order, each command alone after a rest",
        "of 60 ms. Time is the median of wall time; processor time is that of everything the command sets off, daemons included; peak",
        "memory is that of the command alone.",
        "",
        machine_line(newest),
        "",
        "| what | promise | tare | podman | docker | crun | runc | floor | command |",
        "|---|---|---|---|---|---|---|---|---|",
        line("`run --rm` of `true`, no network", "not slower than `crun run` alone; at most 1/15 of docker and podman", "none"),
        line("— processor time", "", "none", "cpu"),
        line("— peak memory", "", "none", "rss"),
        line("`run --rm` of `true`, bridge", "at most 1/10 of docker and podman", "bridge"),
        line("— processor time", "", "bridge", "cpu"),
        line("`exec` of `true`", "not slower than crun's", "exec"),
        line("— processor time", "", "exec", "cpu"),
        line("`ps` with 1 container", "at most 1/5 of docker's", "ps", suffix=", 1 running"),
        line("`ps` with 100 containers", "at most 1/5 of docker's", "ps", suffix=", 100 running"),
        "",
        "The floor is a program that does the same system calls and nothing else ([floor.c](benches/floor/floor.c)).",
        "",
        "| what | promise | tare | podman | docker | command |",
        "|---|---|---|---|---|---|",
        crowd_line(cases.get("many", {})),
        start_line(cases.get("start", {})),
        "",
        *memory_lines(cases.get("memory", {})),
        "",
        *runtime_lines(cases),
        "",
        *network_report.specification(cases),
        "",
        *images_report.specification(cases),
    ]
    return "\n".join(out) + "\n"


RUNTIME_COMMAND = "`benches/oci {}`"
RUNTIMES = ("tare", "crun", "runc", "floor")


def runtime_lines(cases: dict) -> list[str]:
    def line(what: str, promise: str, case: str, suffix: str = "", quantity: str = "wall", key: str = "median") -> str:
        cells = []
        for name in RUNTIMES:
            row = cases.get(case, {}).get(name + suffix)
            cells.append(f"{row[quantity][key]:.{1 if row[quantity][key] < 100 else 0}f} {QUANTITIES[quantity]}" if row else "")
        return "| " + " | ".join([what, promise, *cells, RUNTIME_COMMAND.format(case)]) + " |"

    small = cases.get("oci-small", {})
    started = [f"{small[name]['runs']} of {small[name]['of']}" if name in small else "" for name in RUNTIMES]
    return [
        "## OCI runtime",
        "",
        "One bundle, the one that dockerd makes for a container: its mounts, masks, capabilities, filter and device rules. Groups in all v1",
        "controllers unless two are said. In turns and in random order, each command alone after a rest of 60 ms unless said otherwise.",
        "",
        "| what | promise | tare | crun | runc | floor | command |",
        "|---|---|---|---|---|---|---|",
        line("`run` of `true`", "at most 0.4 of crun, 1.3 of the floor", "oci-run", ", seccomp"),
        line("— processor time", "at most 0.6 of crun's", "oci-run", ", seccomp", "cpu"),
        line("— peak memory", "", "oci-run", ", seccomp", "rss"),
        line("— without a filter", "not slower than crun; 1.3 of the floor", "oci-run", ", plain"),
        line("— with two controllers, the fewest with which crun and runc start", "not slower than crun; 1.3 of the floor", "oci-run", ", few"),
        line("— without rests", "not slower than crun; 1.3 of the floor", "oci-loop"),
        line("— 8 at once", "not slower than crun; 1.3 of the floor", "oci-crowd"),
        line("— 8 at once, the slowest twentieth", "at most 0.5 of crun's", "oci-crowd", "", "wall", "p95"),
        line("— 8 at once, processor time of each", "at most 0.6 of crun's", "oci-crowd", "", "cpu"),
        line("`create`", "at most 0.4 of crun, 1.3 of the floor", "oci-steps", ", create"),
        line("`start`", "not slower than crun; 1.3 of the floor", "oci-steps", ", start"),
        line("`exec` of `true`", "at most 0.4 of crun, 1.3 of the floor", "oci-steps", ", exec"),
        line("— processor time", "at most 0.6 of crun's", "oci-steps", ", exec", "cpu"),
        line("`delete`", "not slower than crun; 1.3 of the floor", "oci-steps", ", delete"),
        "| " + " | ".join(["`run` of `true` under a memory limit of 1 MiB", "always", *started, RUNTIME_COMMAND.format("oci-small")]) + " |",
    ]


def crowd_line(rows: dict) -> str:
    def cell(name: str) -> str:
        row = rows.get(name)
        if not row:
            return ""
        left = ", ".join(f"{len(things)} {kind}" for kind, things in row["left"].items()) or "nothing"
        return f"{row['start_s']:.1f} s and {row['remove_s']:.1f} s; {row['failures']} failures; left: {left}"

    cells = [cell(name) for name in ("tare", "podman", "docker")]
    what = "200 containers with a bridge, started 8 at once and removed"
    return "| " + " | ".join([what, "no failure, nothing left", *cells, COMMAND.format("many")]) + " |"


def start_line(rows: dict) -> str:
    above = ""
    if rows:
        tare, bare = rows["tare"]["wall"]["median"], rows["bare"]["wall"]["median"]
        above = f"{tare - bare:.2f} ms ({tare:.2f} against {bare:.2f})"
    return f"| start of the binary, above a bare static program | under 1 ms | {above} | | | {COMMAND.format('start')} |"


def memory_lines(rows: dict) -> list[str]:
    def cell(engine: str, key: str) -> str:
        # The one program of which there is one a container.
        programs = rows.get(engine, {}).values()
        return f"{max(programs, key=lambda kb: kb['count'])[key] / 1000:.2f} MB" if programs else ""

    daemons = sum(kb["pss"] * kb["count"] for kb in rows.get("daemons", {}).values()) / 1000
    command = COMMAND.format("memory")
    return [
        "## Memory",
        "",
        "| what | promise | tare | conmon | containerd-shim | command |",
        "|---|---|---|---|---|---|",
        f"| supervisor, proportional set size, mean of 31 | at most 0.25 MB | {cell('tare', 'pss')} | {cell('podman', 'pss')} "
        f"| {cell('docker', 'pss')} | {command} |",
        f"| supervisor, private memory, mean of 31 | at most 0.15 MB | {cell('tare', 'private')} | {cell('podman', 'private')} "
        f"| {cell('docker', 'private')} | {command} |",
        f"| daemons when nothing runs | none | 0 | 0 | {f'{daemons:.0f} MB (dockerd, containerd)' if rows else ''} | {command} |",
    ]

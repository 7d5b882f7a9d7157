"""The network's figures, as a table for the terminal and as those of SPECIFICATION.md."""

COMMAND = "`benches/network {}`"
ENGINES = ("tare", "podman", "docker")
UNITS = {
    "first": "ms", "wall": "ms", "cpu": "ms", "packet": "ms", "gone": "ms",
    "gbit": "Gbit/s", "trip": "µs", "trip_p99": "µs", "opens": "/s",
    "answers": "/s", "median": "µs", "p99": "µs",
}  # fmt: skip


def terminal(rows: dict) -> list[str]:
    lines = []
    for name, row in rows.items():
        figures = "  ".join(f"{q} {summary['median']:.2f} {UNITS[q]} (p25 {summary['p25']:.2f}, p75 {summary['p75']:.2f})" for q, summary in row.items())
        lines.append(f"  {name:32} {figures}")
    return lines


def specification(cases: dict) -> list[str]:
    def figure(case: str, name: str, quantity: str) -> float | None:
        return cases.get(case, {}).get(name, {}).get(quantity, {}).get("median")

    def cell(case: str, name: str, quantity: str) -> str:
        value = figure(case, name, quantity)
        if value is None:
            return ""
        return f"{value:,.0f} {UNITS[quantity]}" if value >= 100 else f"{value:.1f} {UNITS[quantity]}"

    def above(case: str, engine: str, quantity: str) -> str:
        values = [figure(case, f"{engine}, {network}", quantity) for network in ("bridge", "none")]
        if None in values:
            return ""
        return f"{values[0] - values[1]:.1f} ms ({values[0]:.1f} − {values[1]:.1f})"

    def line(what: str, promise: str, case: str, cells: list[str]) -> str:
        return "| " + " | ".join([what, promise, *cells, COMMAND.format(case)]) + " |"

    def starts(what: str, promise: str, case: str, quantity: str) -> str:
        return line(what, promise, case, [above(case, engine, quantity) for engine in ENGINES])

    def plain(what: str, promise: str, case: str, quantity: str, suffix: str = "") -> str:
        return line(what, promise, case, [cell(case, engine + suffix, quantity) for engine in ENGINES])

    def flow(what: str, promise: str, quantity: str, path: str, floor: str = "bare veth pair") -> str:
        cells = [cell("net-flow", f"{engine}, {path}", quantity) for engine in ENGINES]
        return line(what, promise, "net-flow", [*cells, cell("net-flow", floor, quantity)])

    def ports(what: str, promise: str, *names: str, quantity: str = "wall") -> str:
        return line(what, promise, "net-ports", [" / ".join(cell("net-ports", name, quantity) for name in names)])

    best = "at least the best peer"
    out = [
        "## Networks",
        "",
        "What a network costs is a bridge's figure less that of network `none`, in one run. The container's first instruction prints the",
        "time; a container runs beside it on the bridge.",
        "",
        "| what | promise | tare | podman | docker | command |",
        "|---|---|---|---|---|---|",
        starts("first instruction, above network none", "at most 4 ms", "net-start", "first"),
        starts("`run --rm` returns, above network none", "at most 4 ms", "net-start", "wall"),
        starts("— processor time", "", "net-start", "cpu"),
        starts("first instruction beside 300 on the bridge, above none", "at most 6 ms", "net-crowd", "first"),
        starts("— `run --rm` returns", "", "net-crowd", "wall"),
        starts("— processor time", "", "net-crowd", "cpu"),
        plain("devices gone, after the return", "within 500 ms", "net-start", "gone", ", gone"),
        plain("connection to the host asked for by the first instruction", "no wait", "net-packet", "packet"),
        plain("`network connect`, container running", "", "net-connect", "wall", ", connect"),
        plain("— processor time", "", "net-connect", "cpu", ", connect"),
        plain("`network disconnect`", "", "net-connect", "wall", ", disconnect"),
        "",
        "| ports | promise | tare | command |",
        "|---|---|---|---|",
        ports("`run --rm` without and with a published port, none published before", "", "none beside 0", "one beside 0"),
        ports("the same beside 1,000 published ones", "flat", "none beside 1000", "one beside 1000"),
        ports("`run --rm` that publishes 1,000 ports", "", "a thousand"),
        ports("`port add` on a running container", "", "port add"),
        "",
        "| traffic | promise | tare | podman | docker | floor (veth pair, or loopback) | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for path, what, floor in (
        ("container to container", "container to container", "bare veth pair"),
        ("published", "published port, an address of the host", "bare veth pair"),
        ("published on 127.0.0.1", "published port on 127.0.0.1", "bare veth pair"),
        ("published on ::1", "published port on ::1 (spliced)", "loopback of one namespace"),
    ):
        out += [
            flow(f"{what}: one stream", best, "gbit", path, floor),
            flow("— round trip, median", best, "trip", path, floor),
            flow("— round trip, 99 of 100", "", "trip_p99", path, floor),
            flow("— connections", best, "opens", path, floor),
        ]
    return out + [
        "",
        "| names | promise | tare | podman | docker | command |",
        "|---|---|---|---|---|---|",
        plain("answers, asked one at a time", best, "net-names", "answers"),
        plain("— median", "", "net-names", "median"),
        plain("— 99 of 100", best, "net-names", "p99"),
    ]

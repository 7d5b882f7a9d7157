"""The images' figures, as a table for the terminal and as those of SPECIFICATION.md."""

COMMAND = "`benches/images {}`"
PULLERS = ("tare", "tare, trees", "podman", "docker", "containerd", "containerd, erofs", "skopeo", "floor")
UNITS = {"wall": "ms", "cpu": "ms", "rss": "MB", "wire": "MB"}


def terminal(rows: dict) -> list[str]:
    lines = []
    for name, row in rows.items():
        wall = row["wall"]
        rest = "  ".join(f"{q} {row[q]['median']:.0f} {UNITS[q]}" for q in row if q != "wall")
        lines.append(
            f"  {name:26} {wall['median']:9.1f} ms (p25 {wall['p25']:.1f}, p75 {wall['p75']:.1f}, min {wall['min']:.1f}, n {wall['n']})  {rest}"
        )
    return lines


def specification(cases: dict) -> list[str]:
    def cell(case: str, name: str, quantity: str = "wall") -> str:
        value = cases.get(case, {}).get(name, {}).get(quantity, {}).get("median")
        if value is None:
            return ""
        if UNITS[quantity] == "ms" and value >= 1000:
            return f"{value / 1000:.2f} s"
        return f"{value:.{1 if value < 100 else 0}f} {UNITS[quantity]}"

    def pulls(what: str, promise: str, case: str, verb: str = "pull", quantity: str = "wall") -> str:
        cells = [cell(case, f"{name}, {verb}", quantity) for name in PULLERS]
        if verb == "rmi":
            cells[-1] = cell(case, "unlinking, rmi", quantity)
        return "| " + " | ".join([what, promise, *cells, COMMAND.format(case)]) + " |"

    def engines(what: str, promise: str, case: str, suffix: str = "", quantity: str = "wall") -> str:
        cells = [cell(case, name + suffix, quantity) for name in ("tare", "podman", "docker")]
        return "| " + " | ".join([what, promise, *cells, COMMAND.format(case)]) + " |"

    best = "at most 0.35 of the best peer, 1.25 of the floor"
    out = [
        "## Images",
        "",
        "From a registry on 127.0.0.1 into an empty store on a journalled ext4, in turns and in random order. `tare` makes EROFS images of",
        "layers, `tare, trees` trees of files. skopeo fetches and unpacks nothing. The floor fetches, inflates, hashes both sides and writes",
        "the same bytes on both processors; of a removal it is the unlinking of a copy of tare's files.",
        "",
        "| what | promise | tare | tare, trees | podman | docker | containerd | containerd, EROFS | skopeo | floor | command |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, what, promise in (
        ("img-real", "8 layers, 65,000 entries, 700 MB, gzip: pull", best),
        ("img-realz", "the same, zstd: pull", best),
        ("img-debian", "Debian, 122 MB: pull", ""),
        ("img-tiny", "busybox, 2 MB: pull", ""),
    ):
        out.append(pulls(what, promise, case))
        if case != "img-tiny":
            out.append(pulls("— processor time", "", case, quantity="cpu"))
            out.append(pulls("— peak memory of the command", "", case, quantity="rss"))
            out.append(pulls("— over the wire", "", case, quantity="wire"))
        out.append(pulls("— `rmi`", "at most 0.5 of the best peer, 1.2 of unlinking" if case.startswith("img-real") else "", case, "rmi"))
    out += [
        "",
        "| what | promise | tare | podman | docker | command |",
        "|---|---|---|---|---|---|",
        engines("pull of what is there", "", "img-again"),
        engines("pull of an image that shares 7 of 8 layers", "costs the eighth alone", "img-sibling", ", pull"),
        engines("— over the wire", "", "img-sibling", ", pull", "wire"),
        engines("`run --rm` of `true`, 1 layer", "", "img-depth", ", flat"),
        engines("— 127 layers", "at most 1.3 of 1 layer", "img-depth", ", deep"),
        engines("`commit` of 200 MB", "at most half of the best peer", "img-commit"),
        engines("— processor time", "", "img-commit", "", "cpu"),
    ]
    return out

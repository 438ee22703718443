"""Tables in Markdown of what the steps of `machine_report.py` found."""

import statistics
from collections.abc import Callable, Iterable

from speed_report import NAMES, shown


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    head = list(head)
    cells = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def spread(values: list[float], digits: int = 1) -> str:
    """The median, and from the least to the most."""
    middle, low, high = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
    return f"{middle} ({low}-{high})"


def machine(found: dict) -> str:
    device = {f"device: {name}": value for name, value in found["device"].items()}
    facts = found["doctor"] | {"MLX": found["mlx"]} | device
    return table(("", ""), facts.items())


def kernels(found: dict) -> str:
    known = "known before" if found["known_before"] else "none before"
    first, rows = found["first"], []
    for name, turns in found["turns"].items():
        values = ([turn[what] for turn in turns] for what in ("load", "first_sound"))
        rows.append((f"{name} custom kernels", *(spread(each, 2) for each in values)))
    rows.append((f"the first process, verdicts {known}", *(f"{first[k]:.2f}" for k in first)))
    times = table(("seconds", "loading", "from the start to the first sound"), rows)
    return f"{table(('', ''), found['doctor'].items())}\n\n{times}"


def tests(found: dict) -> str:
    text = f"{found['tests']} tests, {found['skipped']} skipped, {len(found['failed'])} failed"
    return "\n".join([text, *(f"- {name}: {why}" for name, why in found["failed"].items())])


def fidelity(found: dict) -> str:
    rows = (
        (mode, f"{row['error']:.1e}", row["samples"], row["expected"])
        for mode, row in found.items()
    )
    return table(("mode", "error", "samples", "official samples"), rows)


def bandwidth_share(found: dict, patches: str) -> float:
    """Seconds in which a patch's weights are read, over those that it took."""
    least = sum(found["weight_bytes"].values()) / (found["bandwidth"] * 1e9)
    return least * int(patches) / found["spoken"][patches]["ours"]["seconds"]["median"]


def speed(found: dict) -> str:
    rows = []
    for patches, engines in found["spoken"].items():
        for name, row in engines.items():
            ratio = shown(row["to_ours"], digits=2) if "to_ours" in row else ""
            share = f"{100 * bandwidth_share(found, patches):.0f} %" if name == "ours" else ""
            each = shown(row["seconds"], 1000 / int(patches))
            rows.append((patches, NAMES[name], each, ratio, share))
    head = ("patches", "engine", "ms per patch", "over ours", "of the bandwidth")
    read = sum(found["weight_bytes"].values()) / 1e9
    notes = f"{read:.2f} GB of weights read per patch, at {found['bandwidth']:.0f} GB/s"
    firsts = (
        (NAMES[name], shown(row["seconds"], 1000, 0)) for name, row in found["first_sound"].items()
    )
    parts = [table(head, rows), notes, table(("engine", "ms to the first sound"), firsts)]
    names = list(found["engines"])
    by_part = (
        (part, *(f"{row[name]:.2f}" for name in names)) for part, row in found["parts_ms"].items()
    )
    parts.append(
        table(("ms per patch, one part after another", *(NAMES[n] for n in names)), by_part)
    )
    return "\n\n".join(parts)


def batch(found: list[dict]) -> str:
    rows = (
        (
            row["batch"],
            f"{row['ms_per_step']:.1f}",
            f"{row['patches_per_second']:.1f}",
            "{:.2f} ({:.2f}-{:.2f})".format(*row["gain"]),
            f"{row['times_real_time']:.1f}",
            f"{row['first_sound_ms']:.0f}",
            f"{row['peak_bytes'] / 1e9:.2f}",
            f"{row['error']:.1e}",
        )
        for row in found
    )
    head = (
        "texts",
        "ms per step",
        "patches per second",
        "gain",
        "× real time",
        "ms to first sound",
    )
    return table((*head, "peak GB", "error of the first row"), rows)


def joins(found: dict) -> str:
    names = {"together": "ms per step, all together", "replaced": "one by one", "ratios": "ratio"}
    return table(names.values(), [[spread(found[name], 2) for name in names]])


def voices(found: dict) -> str:
    rows = ((f"{seconds} s", *map(spread, row.values())) for seconds, row in found.items())
    return table(("reference", "ms to the first sound, first text", "next texts"), rows)


def length(found: list[dict]) -> str:
    rows = (
        (f"{row['start']} to {row['end']}", f"{row['median']:.1f}", f"{row['slowest']:.1f}")
        for row in found
    )
    return table(("patches", "ms, median", "slowest of a hundred"), rows)


def load(found: dict) -> str:
    weights = found["first"]["weight_bytes"]
    states = {
        "first": "files not in the system's cache"
        if found["is_cold"]
        else "first time; written by this program, so in the cache if there was room",
        "again": "files in the cache",
    }
    rows = []
    for name, state in states.items():
        run, read = found[name], found.get(f"read_{name}_seconds")
        peaks = (
            run[what][of] / weights
            for what in ("loading", "speaking")
            for of in ("mlx", "resident")
        )
        reading = "not measured" if read is None else f"{read:.2f}"
        rows.append(
            (state, f"{run['load_seconds']:.2f}", reading, *(f"{peak:.2f}" for peak in peaks))
        )
    head = ["", "s to load", "s of plain reads"]
    head += [f"{of} peak {what}" for what in ("loading", "speaking") for of in ("MLX", "resident")]
    sizes = f"files {found['file_bytes'] / 1e9:.2f} GB, weights {weights / 1e9:.2f} GB"
    return f"{table(head, rows)}\n\n{sizes}; peaks over the weights"


SHOWN: dict[str, Callable[..., str]] = {
    each.__name__: each
    for each in (machine, kernels, tests, fidelity, speed, batch, joins, voices, length, load)
}

"""What `speed.py` measured -> a summary, as tables, JSON or a plot."""

import argparse
import os
import platform
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np

from mlx_voxcpm2.commands.machine import processor

NAMES = {
    "ours": "mlx_voxcpm2",
    "plain": "without custom kernels",
    "mlx_audio": "mlx-audio",
    "official": "official",
}
PARTS = ("prefill", "language models", "local encoder", "DiT solve", "AudioVAE", "rest")
SPREAD = {"median": statistics.median, "least": min, "most": max}
# Above what rounding does to so many patches in float32, and below what any mistake does.
TOLERANCE, CHECKED = 1e-3, 8


def spread(values: list[float]) -> dict:
    return {name: function(values) for name, function in SPREAD.items()} | {"rounds": values}


def errors(spoken: dict[str, np.ndarray], patch: int) -> dict[str, list[float] | None]:
    """Waveforms (samples,) -> error of the first patches and of all: root mean square of the
    difference from the official one over its own; infinite for another length than mlx-audio's
    eight samples more."""
    wanted = spoken.get("official")
    if wanted is None:
        return dict.fromkeys(spoken)

    def error(audio: np.ndarray, length: int) -> float:
        if not 0 <= len(audio) - len(wanted) <= 8:
            return float("inf")
        signal, audio = (x[:length].astype(np.float64) for x in (wanted, audio))
        return float(np.sqrt(np.mean((audio - signal) ** 2) / np.mean(signal**2)))

    lengths = min(CHECKED * patch, len(wanted)), len(wanted)
    return {name: [error(audio, n) for n in lengths] for name, audio in spoken.items()}


def compare(rounds: list[dict[str, dict]]) -> dict[str, dict]:
    """Answers by engine, of every round -> the spread of their seconds, and of these to ours."""
    turns = [{name: answer["seconds"] for name, answer in turn.items()} for turn in rounds]
    found = {}
    for name in turns[0]:
        found[name] = {"seconds": spread([turn[name] for turn in turns])}
        if name != "ours":
            found[name]["to_ours"] = spread([turn[name] / turn["ours"] for turn in turns])
    return found


def weight_bytes(weights: dict[str, int], steps: int) -> dict[str, int]:
    """Bytes of every parameter by name -> bytes that one patch reads, by what reads them."""
    used: dict[str, int] = defaultdict(int)
    evaluations = steps - max(1, int((steps + 1) * 0.04))
    for name, size in weights.items():
        first, _, rest = name.partition(".")
        # A text's tokens and the solver's times are embedded once per call.
        if "embed_tokens" in rest or "time_mlp" in rest:
            continue
        if first == "feat_decoder" and "cond_proj" not in rest:
            used["DiT solve"] += size * evaluations
        elif first == "audio_vae":
            used["AudioVAE"] += size if rest.startswith("decoder.") else 0
        elif first in ("base_lm", "residual_lm"):
            used["language models"] += size
        else:
            used["local encoder" if first == "feat_encoder" else "projections"] += size
    return dict(used)


def parts(rounds: list[dict], patches: int) -> dict[str, dict[str, float]]:
    """Median milliseconds by part and engine: per patch, the prefill's per call."""
    found = {}
    for name in rounds[0]:
        answers = [turn[name] for turn in rounds]
        for answer in answers:
            answer["parts"]["rest"] = answer["seconds"] - sum(answer["parts"].values())
        for part in PARTS:
            median = statistics.median(answer["parts"].get(part, 0.0) for answer in answers)
            share = 1 if part == "prefill" else patches
            found.setdefault(part, {})[name] = 1000 * median / share
    return found


def summarise(args: argparse.Namespace, settings: dict, found: dict) -> dict:
    """What is written as JSON; `print_tables` shows the same."""
    engines, spoken = found["engines"], {}
    weights = weight_bytes(engines["ours"].pop("weights"), args.steps)
    for patches, rounds in found["speak"].items():
        spoken[patches] = compare(rounds)
        for name, row in spoken[patches].items():
            row["error"] = found["errors"][patches][name]
    last = found["parts"][-1]
    return {
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "load_average": found["load_average"],
        },
        "settings": {
            "checkpoint": str(args.model or args.size),
            "dtype": args.dtype,
            "steps": args.steps,
            "cfg": args.cfg,
            "threads": args.threads,
            "rounds": args.rounds,
            "patch_seconds": settings["patch_samples"] / settings["sample_rate"],
        },
        "engines": engines,
        "spoken": spoken,
        "first_sound": compare(found["begin"]),
        "parts_ms": parts(found["parts"], args.patches[0]),
        "memory": {
            name: {
                "loaded": engines[name]["resident"],
                "peak": last[name]["resident"],
                "device_peak": last[name]["device_peak"],
            }
            for name in engines
        },
        "weight_bytes": weights,
        "bandwidth": args.bandwidth or found["floor"]["bandwidth"] / 1e9,
        "products_seconds": found["floor"]["products"],
    }


def comparable(summary: dict) -> list[str]:
    """The engines that say the same as the official one, as far as that was measured."""
    if summary["settings"]["dtype"] != "float32":
        return list(summary["engines"])
    wrong = {
        name
        for engines in summary["spoken"].values()
        for name, row in engines.items()
        if row["error"] and not row["error"][0] <= TOLERANCE
    }
    return [name for name in summary["engines"] if name not in wrong]


def shown(values: dict, scale: float = 1, digits: int = 1) -> str:
    """The median, and from the least to the most."""
    median, least, most = (f"{scale * values[kind]:.{digits}f}" for kind in SPREAD)
    return f"{median} ({least}-{most})"


def table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        print("  ".join(cells))
    print()


def print_header(summary: dict) -> None:
    machine, settings = summary["machine"], summary["settings"]
    print(f"{machine['processor']}, {machine['cores']} cores, {machine['system']}")
    print("load average", *(f"{value:.2f}" for value in machine["load_average"]))
    print(*(f"{key} {value}" for key, value in settings.items()), sep=", ", end="\n\n")
    rows = [["engine", "version", "backend", "device", "BLAS", "GF/s of 22x1024x1024"]]
    for name, about in summary["engines"].items():
        cells = [about[key] for key in ("engine", "backend", "device", "blas")]
        rows.append([NAMES[name], *cells, f"{about['gflops']:.0f}"])
    table(rows)


def print_spoken(summary: dict) -> None:
    length, same = summary["settings"]["patch_seconds"], comparable(summary)

    def ratio(row: dict) -> str:
        return shown(row["to_ours"], digits=2) if "to_ours" in row and "ours" in same else "-"

    for patches, engines in summary["spoken"].items():
        head = ("ms/patch", "patches/s", "RTF", "to ours", f"error of {CHECKED}", "error of all")
        rows = [[f"{patches} patches", *head]]
        for name, row in engines.items():
            error = [f"{value:.1e}" for value in row["error"] or ()] or ["not measured"] * 2
            rate = patches / row["seconds"]["median"]
            each, factor = shown(row["seconds"], 1000 / patches), f"{1 / (rate * length):.3f}"
            cells = [each, f"{rate:.1f}", factor, ratio(row)]
            if name not in same:
                cells = ["speech differs", "-", "-", "-"]
            rows.append([NAMES[name], *cells, *error])
        table(rows)
    rows = [["first sound", "ms", "to ours"]]
    for name in same:
        row, all_at_once = summary["first_sound"][name], " (all at once)" * (name == "mlx_audio")
        rows.append([NAMES[name] + all_at_once, shown(row["seconds"], 1000, 0), ratio(row)])
    table(rows)


def print_parts(summary: dict) -> None:
    same = comparable(summary)
    rows = [["ms per patch", *(NAMES[name] for name in same)]]
    for part, row in summary["parts_ms"].items():
        label = "prefill, once" if part == "prefill" else part
        rows.append([label, *(f"{row[name]:.1f}" for name in same)])
    table(rows)
    rows = [["memory, GB", "resident once loaded", "resident peak", "MLX's or CUDA's peak"]]
    for name, row in summary["memory"].items():
        rows.append([NAMES[name], *(f"{value / 1e9:.2f}" for value in row.values())])
    table(rows)


def floors(summary: dict) -> dict[str, float]:
    """Least milliseconds of a patch on this machine, by what takes them."""
    size = sum(summary["weight_bytes"].values())
    return {
        "matrix products alone": 1000 * summary["products_seconds"],
        "reading the weights once": size / summary["bandwidth"] / 1e6,
    }


def print_floor(summary: dict) -> None:
    weights = summary["weight_bytes"]
    uses = ", ".join(f"{use} {size / 1e6:.1f}" for use, size in weights.items())
    print(f"weights read per patch: {sum(weights.values()) / 1e6:.1f} MB ({uses})")
    print(f"bandwidth: {summary['bandwidth']:.3g} GB/s")
    for patches, engines in summary["spoken"].items():
        each = 1000 * engines["ours"]["seconds"]["median"] / patches
        for name, floor in floors(summary).items():
            share = f"{100 * floor / each:.0f} % of what each of {patches} patches took"
            print(f"{name}: {floor:.2f} ms, {share}")


def print_tables(summary: dict) -> None:
    print_header(summary)
    print_spoken(summary)
    print_parts(summary)
    print_floor(summary)


def plot(summary: dict, path: Path) -> None:
    """Bars of milliseconds per patch, of the longest speech, with the floor as lines."""
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    machine, settings, patches = summary["machine"], summary["settings"], max(summary["spoken"])
    rows = [(name, summary["spoken"][patches][name]["seconds"]) for name in comparable(summary)]
    rows.sort(key=lambda row: row[1]["median"])
    labels = [summary["engines"][name]["engine"] for name, _ in rows]
    times = [[1000 * seconds[kind] / patches for _, seconds in rows] for kind in SPREAD]
    reach = np.abs(np.array(times[1:]) - times[0])
    figure, axes = pyplot.subplots(figsize=(7.2, 0.9 + 0.5 * len(rows)), layout="constrained")
    colours = ["#2a6f4e" if name in ("ours", "plain") else "#9a9a9a" for name, _ in rows]
    bars = axes.barh(labels, times[0], 0.7, xerr=reach, color=colours, ecolor="#444444")
    axes.bar_label(bars, [f"{time:.0f}" for time in times[0]], padding=8)
    axes.margins(x=0.1)
    for style, (name, floor) in zip(("--", ":"), floors(summary).items(), strict=True):
        axes.axvline(floor, ls=style, c="#c04000", label=f"{name}: {floor:.0f}")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="floor", fontsize=9, title_fontsize=9)
    length = 1000 * settings["patch_seconds"]
    axes.set_title(f"Milliseconds per patch of {length:.0f} ms of speech", loc="left", fontsize=11)
    about = settings["checkpoint"], settings["dtype"], f"{patches} patches", machine["processor"]
    axes.set_xlabel(f"{', '.join(about)}, {machine['cores']} cores", fontsize=9)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)

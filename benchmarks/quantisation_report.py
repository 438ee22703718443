"""The tables of quantisation.py."""

# Keys of the report, and the names of the outputs that they are measured on.
BY_PATCH = {
    "velocity": "velocity",
    "latents": "latents",
    "stop_margin": "stop margin",
    "free_running": "free running",
}


# A model card takes over what stands between these.
MEASURED = "<!-- measured -->\n", "\n<!-- /measured -->"


def markdown(report: dict) -> str:
    """All tables, each under a line that says what it shows."""
    parts = [
        summary(report).join(MEASURED),
        modules(report["checkpoints"]),
        by_patch(report["checkpoints"]),
    ]
    if report["sensitivity"]:
        parts.append(sensitivity(report["sensitivity"]))
    return "\n\n".join(parts)


def number(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}" if value < 1e-3 else f"{value:.2g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(report: dict) -> str:
    """Sizes and errors of each checkpoint over all patches."""
    versions = ", ".join(f"{name} {value}" for name, value in report["versions"].items())
    weights = (
        "Random weights, so these are no errors of speech. " if report["random_weights"] else ""
    )
    caption = (
        f"{weights}Relative errors (root mean square) against {report['source']} computed in "
        f"float32, {report['patches']} patches of {report['texts']} texts, fed the same patches "
        f"and noise; {report['inference_timesteps']} steps, guidance {report['cfg_value']:g}; "
        f"{versions}; {report['device']}."
    )
    checkpoints = report["checkpoints"]
    has_speech = checkpoints[0]["speech"] is not None
    head = [
        "",
        "weights",
        "read per patch",
        "velocity",
        "latents",
        "stop margin",
        "stops changed",
        "FSQ codes changed",
        "latents, free running",
    ]
    rows = []
    for found in checkpoints:
        errors = found["errors"]
        rows.append(
            [
                found["name"],
                f"{found['gigabytes']:.3g} GB",
                f"{found['gigabytes_per_patch']:.3g} GB",
                number(errors["velocity"]),
                number(errors["latents"]),
                number(errors["stop_margin"]),
                f"{found['stop_flips']} of {found['stop_decisions']}",
                f"{found['codes_changed']:.1%}",
                number(errors["free_running"]),
            ]
        )
        if has_speech:
            speech = found["speech"]
            rows[-1].append(f"{speech['word_error_rate']:.1%}")
            rows[-1].append(f"{speech['speaker_similarity']:.3f}")
    if has_speech:
        head += ["word error rate", "likeness of the voice"]
    return f"{caption}\n\n{table(head, rows)}"


def modules(checkpoints: list[dict]) -> str:
    """Errors by module."""
    rows = [
        [
            name,
            *(
                f"{number(found['modules'][name]['alone'])} / "
                f"{number(found['modules'][name]['together'])}"
                for found in checkpoints
            ),
        ]
        for name in checkpoints[0]["modules"]
    ]
    caption = "By module, given the source's inputs / those of the modules before it:"
    return f"{caption}\n\n{table(['', *(found['name'] for found in checkpoints)], rows)}"


def by_patch(checkpoints: list[dict]) -> str:
    """Errors at patches 1, 2, 4, 8 … and the last."""
    count = len(checkpoints[0]["by_patch"]["latents"])
    shown = sorted({2**power for power in range(count.bit_length()) if 2**power <= count} | {count})
    rows = [
        [f"{found['name']}: {name}", *(number(found["by_patch"][key][i - 1]) for i in shown)]
        for found in checkpoints
        for key, name in BY_PATCH.items()
    ]
    return f"By patch:\n\n{table(['', *map(str, shown)], rows)}"


def sensitivity(found: dict) -> str:
    """Errors while one group of layers is quantised, the worst for its bytes last."""
    rows = [
        [
            group["group"],
            f"{group['megabytes_saved']:.3g} MB",
            f"{group['megabytes_saved_per_patch']:.3g} MB",
            *(number(group["errors"][key]) for key in ("velocity", "latents", "stop_margin")),
            f"{group['codes_changed']:.1%}",
        ]
        for group in found["groups"]
    ]
    caption = f"One group of layers quantised to {found['bits']} bits (groups of 64), alone:"
    head = [
        "",
        "saved",
        "saved per patch",
        "velocity",
        "latents",
        "stop margin",
        "FSQ codes changed",
    ]
    return f"{caption}\n\n{table(head, rows)}"

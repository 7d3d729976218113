"""The table of class folders: CIFAR-10's photographs, long-tailed, with wrong labels, two networks of one or two kinds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from _table import Row, Table, share, spread

# The largest class keeps 1,000 images, the smallest 100. Resize, crop and mirror: as much as 15 epochs from scratch can use.
SETTINGS = (
    "--dataset image_folder --imbalance exp --imbalance_factor 0.1 --schedule default --epochs 15 --switch 10 --neck none "
    "--image_size 64 64 --augment reid --batchsize 64 --lr 0.1 --lr_schedule cosine --warmup_epochs 1 --new_layer_mult 1 "
    "--weight_decay 5e-4 --eval_every 0"
)
FIRST, OTHER = "resnet10t", "cs3darknet_s"
PAIRED = ("peer", "core_peer", "core")
NOISE = (("symmetric", 0.2), ("symmetric", 0.4), ("asymmetric", 0.2), ("asymmetric", 0.4))
# Of core_peer the defaults of class folders: peer learning before the switch.
# What a row's method stands for: prior and smoothing are a part of peer learning here, and left out to see what they give.
METHODS = {
    **{name: f"--method {name}" for name in ("baseline", "core")},
    **{name: f"--method {name} --tau 1 --smoothing 0.1" for name in ("peer", "core_peer")},
    **{f"{name} without prior": f"--method {name} --tau 0 --smoothing 0.1" for name in ("peer", "core_peer")},
}
FIGURES = ("accuracy", "balanced_accuracy", "lowest_recall")
PLACES = ("", "_net1", "_both")
COLUMNS = [
    *("name", "method", "arch", "arch_net1", "noise", "ratio", "seed", "switch", "amp"),
    *(figure + place for place in PLACES for figure in FIGURES),
    *("selected_precision", "selected_recall", "forward_passes", "seconds", "torch"),
]


def planned() -> list[Row]:
    """All runs: with the first seed and a fifth of the labels wrong every method once, then the other seeds, then the rest."""
    rows: dict[str, Row] = {}

    def add(method: str, archs: tuple[str, ...], noise: str, ratio: float, seed: int) -> None:
        name = "-".join([method.replace(" ", "_"), *archs, noise, f"{ratio:g}", f"s{seed}"])
        fields = {"method": method, "arch": archs[0], "arch_net1": archs[1] if len(archs) > 1 else ""}
        rows.setdefault(name, {"name": name, **fields, "noise": noise, "ratio": f"{ratio:g}", "seed": str(seed)})

    def add_all(noise: str, ratio: float, seed: int) -> None:
        add("baseline", (FIRST,), noise, ratio, seed)
        for method in PAIRED:
            add(method, (FIRST, OTHER), noise, ratio, seed)

    for seed in (1, 2, 3):
        add_all(*NOISE[0], seed)
    for noise, ratio in NOISE[1:]:
        add_all(noise, ratio, 1)
    for seed in (1, 2, 3):
        add("baseline", (OTHER,), *NOISE[0], seed)
        for method in PAIRED:
            add(method, (FIRST, FIRST), *NOISE[0], seed)
        for method in ("peer without prior", "core_peer without prior"):
            add(method, (FIRST, OTHER), *NOISE[0], seed)
    for seed in (2, 3):
        for noise, ratio in NOISE[1:]:
            add_all(noise, ratio, seed)
    return list(rows.values())


def flags(row: Row, runs: Path) -> list[str]:
    """What a run adds to the table's settings: the seed draws images and wrong labels too."""
    archs = [row["arch"], *([row["arch_net1"]] if row["arch_net1"] else [])]
    own = [*METHODS[row["method"]].split(), "--arch", *archs, "--noise", row["noise"], "--noise_ratio", row["ratio"]]
    return [*own, "--seed", row["seed"], "--noise_seed", row["seed"]]


def describe(plan: Row, folder: Path) -> Row:
    """One row from a run folder."""
    result = json.loads((folder / "result.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    nets = result["networks"]
    measured = (nets[0], nets[1] if len(nets) > 1 else None, result["ensemble"])
    figures = {
        figure + place: "" if found is None else f"{100 * found[figure]:.2f}"
        for place, found in zip(PLACES, measured)
        for figure in FIGURES
    }
    keys = ("name", "method", "arch", "arch_net1", "noise", "ratio", "seed")
    return {
        **{key: plan[key] for key in keys},
        "switch": "" if result["switch"] is None else str(result["switch"]),
        "amp": config["config"]["amp"],
        **figures,
        **{name: _percents(last.get(name)) for name in ("selected_precision", "selected_recall")},
        "forward_passes": str(len(nets) * result["epochs"] * result["num_train_images"]),
        "seconds": f"{result['seconds']:.0f}",
        "torch": str(config.get("versions", {}).get("torch", "")),
    }


def _percents(values: list[Any] | None) -> str:
    return " ".join("-" if value is None else f"{100 * value:.1f}" for value in values or ())


def summary(rows: list[Row]) -> str:
    """A Markdown table: mean and standard error over the seeds, and the paired gain over the baseline of network 0."""
    cells: dict[tuple[str, str, str, str, str], list[Row]] = {}
    for row in rows:
        key = row["noise"], row["ratio"], row["method"], row["arch"], row["arch_net1"]
        cells.setdefault(key, []).append(row)
    lines = [
        "| noise | method | networks | seeds | accuracy | balanced | lowest recall | balanced, both | gain in balanced | "
        "gain, both | forward passes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (noise, ratio, method, arch, other), found in sorted(cells.items(), key=lambda cell: _place(cell[0])):
        base = {r["seed"]: float(r["balanced_accuracy"]) for r in cells.get((noise, ratio, "baseline", arch, ""), [])}
        columns = [share(found[0]), method, f"{arch} + {other}" if other else arch, str(len(found))]
        columns += [spread([float(row[figure]) for row in found], error=True) for figure in FIGURES]
        columns.append(spread([float(r["balanced_accuracy_both"]) for r in found], error=True) if other else "")
        for figure in ("balanced_accuracy", "balanced_accuracy_both"):
            gains = [float(r[figure]) - base[r["seed"]] for r in found if other and r["seed"] in base]
            columns.append(spread(gains, error=True) if gains else "")
        passes = statistics.mean(float(row["forward_passes"]) for row in found)
        lines.append("| " + " | ".join([*columns, f"{passes:,.0f}"]) + " |")
    return "\n".join(lines)


def _place(key: tuple[str, str, str, str, str]) -> tuple[Any, ...]:
    noise, ratio, method, arch, other = key
    return NOISE.index((noise, float(ratio))), list(METHODS).index(method), arch != FIRST, other != OTHER


TABLES = {"cifar": Table(SETTINGS, planned, flags, COLUMNS, describe, summary)}

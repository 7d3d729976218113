"""Tables of data that are ranked: omniglot-reid and the synthetic crops."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from _table import Row, Table, share, spread

SETTINGS = {
    "omniglot": (
        "--dataset market --schedule default --epochs 36 --arch resnet10t --neck fc512 --neck_dim 256 "
        "--image_size 64 64 --augment small --no-flip --batchsize 32 --lr 0.05 --new_layer_mult 1 --weight_decay 5e-4 "
        "--eval_every 6"
    ),
    "synthetic": "--dataset synthetic --eval_every 0",
}
FIXED_SWITCH = {"omniglot": "24", "synthetic": "19"}
SWITCHING = ("core", "core_peer")
COLUMNS = (
    "name method noise ratio seed switch_asked switch amp mAP rank1 mAP_net1 rank1_net1 mAP_both rank1_both "
    "mAP_every_6 true_agreement_at_switch true_agreement_at_end warned_epochs seconds torch"
).split()


def planned(table: str) -> list[Row]:
    """All runs of a table, the most telling first. A method's rate drops at its switch, or at the table's own."""
    rows: dict[str, Row] = {}

    def add(method: str, noise: str, ratio: float, seed: int, switch: str = FIXED_SWITCH[table]) -> None:
        name = f"{method}-{noise}-{ratio:g}-s{seed}" + (f"-switch{switch}" if method in SWITCHING else "")
        fields = {"method": method, "noise": noise, "ratio": f"{ratio:g}", "seed": str(seed), "switch": switch}
        rows.setdefault(name, {"name": name, **fields})

    if table == "synthetic":
        for seed in (1, 2, 3):
            for ratio in (0.2, 0):
                add("baseline", "random", ratio, seed)
            add("core", "random", 0.2, seed, "auto")
        return list(rows.values())
    for seed in (1, 2, 3):
        for ratio in (0.5, 0.2):
            for method in ("baseline", "core", "core_peer", "peer"):
                add(method, "random", ratio, seed)
    for method in ("baseline", "core", "core_peer", "peer"):
        add(method, "random", 0, 1)
    for switch in ("12", "18", "auto"):
        for ratio in (0.5, 0, 0.2):
            for method in SWITCHING:
                add(method, "random", ratio, 1, switch)
    for ratio in (0.5, 0.2, 0):
        add("self_refine", "random", ratio, 1)
    for method in ("baseline", "core", "self_refine", "peer", "core_peer"):
        add(method, "patterned", 0.2, 1)
    return list(rows.values())


def flags(row: Row, runs: Path) -> list[str]:
    """What a run adds to the table's settings."""
    own = ["--method", row["method"], "--noise", row["noise"], "--noise_ratio", row["ratio"]]
    own += ["--seed", row["seed"], "--switch", row["switch"]]
    if row["noise"] == "patterned":
        # It stands earlier in the list.
        own += ["--pattern_from", str(runs / "baseline-random-0-s1")]
    return own


def describe(plan: Row, folder: Path) -> Row:
    """One row from a run folder."""
    result = json.loads((folder / "result.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    nets = result["networks"]
    both = result["ensemble"]
    switch = result["switch"]
    measured = [f"{100 * line['evaluation']['mAP']:.1f}" for line in lines if "evaluation" in line]

    def percent(net: dict[str, float] | None, key: str) -> str:
        return "" if net is None else f"{100 * net[key]:.2f}"

    return {
        **{key: plan[key] for key in ("name", "method", "noise", "ratio", "seed")},
        "switch_asked": plan["switch"] if plan["method"] in SWITCHING else "",
        "switch": "" if switch is None else str(switch),
        "amp": config["config"]["amp"],
        "mAP": percent(nets[0], "mAP"),
        "rank1": percent(nets[0], "rank1"),
        "mAP_net1": percent(nets[1], "mAP") if len(nets) > 1 else "",
        "rank1_net1": percent(nets[1], "rank1") if len(nets) > 1 else "",
        "mAP_both": percent(both, "mAP"),
        "rank1_both": percent(both, "rank1"),
        "mAP_every_6": " ".join(measured),
        "true_agreement_at_switch": "" if switch is None else f"{100 * lines[switch - 1]['true_agreement'][0]:.1f}",
        "true_agreement_at_end": f"{100 * lines[-1]['true_agreement'][0]:.1f}",
        "warned_epochs": " ".join(str(line["epoch"]) for line in lines if line.get("warning")),
        "seconds": f"{result['seconds']:.0f}",
        "torch": str(config.get("versions", {}).get("torch", "")),
    }


def summary(rows: list[Row]) -> str:
    """A Markdown table, mean and spread over the seeds, and each method's paired gain over the baseline."""
    cells: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["method"], row["noise"], row["ratio"], row["switch_asked"]), []).append(row)
    lines = [
        "| method | switch | noise | seeds | mAP | rank-1 | gain in mAP over baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for (method, noise, ratio, switch), found in sorted(
        cells.items(), key=lambda cell: (cell[0][1], cell[0][2], cell[0])
    ):
        base = {row["seed"]: float(row["mAP"]) for row in cells.get(("baseline", noise, ratio, ""), [])}
        gains = [float(row["mAP"]) - base[row["seed"]] for row in found if row["seed"] in base and method != "baseline"]
        columns = [method, switch, share(found[0]), str(len(found))]
        columns += [spread([float(row[key]) for row in found]) for key in ("mAP", "rank1")]
        lines.append("| " + " | ".join([*columns, spread(gains, error=True) if gains else ""]) + " |")
    return "\n".join(lines)


TABLES = {name: Table(SETTINGS[name], partial(planned, name), flags, COLUMNS, describe, summary) for name in SETTINGS}

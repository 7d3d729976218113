"""The table of ``docs/results.md`` on real images: every method at every noise, on ``omniglot-reid.zip``.

Usage: python tools/omniglot_table.py DATA [--runs DIR] [--jobs N] [--only TEXT] [--amp off|bf16]

DATA is the released folder or its zip. Finished runs (a result.json, or a row of the CSV) are skipped, interrupted ones
go on, so that the script can be stopped and started at will. Each finished run becomes a row of ``docs/results/omniglot.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
TABLE = PROJECT / "docs" / "results" / "omniglot.csv"
EPOCHS, SWITCH = 36, 24
# The same for every method: only the losses differ.
SETTINGS = (
    "--dataset market --schedule default --epochs 36 --arch resnet10t --neck fc512 --neck_dim 256 --image_size 64 64 "
    "--augment small --no-flip --batchsize 32 --lr 0.05 --new_layer_mult 1 --weight_decay 5e-4 --eval_every 6 "
    "--threads 1 --workers 0"
).split()
COLUMNS = (
    "name method noise ratio seed switch_asked switch amp mAP rank1 mAP_net1 rank1_net1 mAP_both rank1_both "
    "mAP_every_6 true_agreement_at_switch true_agreement_at_end warned_epochs seconds torch"
).split()


def planned() -> list[dict[str, str]]:
    """All runs of the table and of the study of the switch, the most telling first."""
    rows = []

    def add(method: str, noise: str, ratio: float, seed: int, switch: str = str(SWITCH)) -> None:
        tail = f"-switch{switch}" if method == "core" else ""
        name = f"{method}-{noise}-{ratio:g}-s{seed}{tail}"
        if all(row["name"] != name for row in rows):
            rows.append(
                {
                    "name": name,
                    "method": method,
                    "noise": noise,
                    "ratio": f"{ratio:g}",
                    "seed": str(seed),
                    "switch": switch,
                }
            )

    for seed in (1, 2, 3):
        for ratio in (0.5, 0.2):
            add("baseline", "random", ratio, seed)
            add("core", "random", ratio, seed)
    add("baseline", "random", 0, 1)
    add("core", "random", 0, 1)
    for switch in ("12", "18", "auto"):
        for ratio in (0.5, 0, 0.2):
            add("core", "random", ratio, 1, switch)
    for ratio in (0.5, 0.2, 0):
        add("self_refine", "random", ratio, 1)
    for method in ("baseline", "core", "self_refine"):
        add(method, "patterned", 0.2, 1)
    return rows


def known() -> dict[str, dict[str, str]]:
    """Rows of the CSV by name."""
    if not TABLE.exists():
        return {}
    with TABLE.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def run(row: dict[str, str], data: Path, runs: Path, amp: str) -> None:
    """Train one row unless it is finished; an interrupted run goes on."""
    folder = runs / row["name"]
    if (folder / "result.json").exists():
        return
    command = [sys.executable, "-m", "reid_core", "train"]
    if (folder / "checkpoints" / "index.json").exists():
        command += ["--resume", str(folder)]
    else:
        command += [*SETTINGS, "--data_dir", str(data), "--out", str(runs), "--name", row["name"], "--amp", amp]
        command += ["--method", row["method"], "--noise", row["noise"], "--noise_ratio", row["ratio"]]
        command += ["--seed", row["seed"], "--switch", row["switch"]]
        if row["noise"] == "patterned":
            command += ["--pattern_from", str(runs / "baseline-random-0-s1")]
    with (runs / f"{row['name']}.log").open("a") as log:
        status = subprocess.run(command, stdout=log, stderr=log, cwd=PROJECT, check=False).returncode
    sys.stderr.write(f"{row['name']}: {'done' if status == 0 else f'exit code {status}, see its log'}\n")


def collect(runs: Path) -> None:
    """Write finished runs as rows of the CSV, keeping rows whose run folder is not here."""
    rows = known()
    for plan in planned():
        folder = runs / plan["name"]
        if (folder / "result.json").exists():
            rows[plan["name"]] = describe(plan, folder)
    TABLE.parent.mkdir(exist_ok=True)
    order = [plan["name"] for plan in planned()]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: order.index(row["name"])))


def describe(plan: dict[str, str], folder: Path) -> dict[str, str]:
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
        "switch_asked": plan["switch"] if plan["method"] == "core" else "",
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


def main() -> None:
    """Run what is missing, then collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="released folder, or its prepared layout")
    parser.add_argument("--runs", type=Path, default=PROJECT / "runs" / "omniglot", help="where run folders lie")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--only", default="", help="only runs whose name contains this")
    parser.add_argument("--amp", default="bf16", choices=("off", "bf16"), help="precision of the forward passes")
    parser.add_argument("--collect", action="store_true", help="train nothing, only write the CSV")
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    if not args.collect:
        todo = [row for row in planned() if args.only in row["name"] and row["name"] not in known()]
        # Patterned noise needs the clean baseline, which stands earlier in the list.
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda row: run(row, args.data, args.runs, args.amp), todo))
    collect(args.runs)
    sys.stderr.write(f"{TABLE.relative_to(PROJECT)} written\n")


if __name__ == "__main__":
    main()

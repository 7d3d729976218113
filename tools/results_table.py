"""The tables of ``docs/results.md``: every method at every noise, several seeds.

Usage: python tools/results_table.py omniglot DATA      DATA is the unzipped omniglot-reid folder, or its prepared layout
       python tools/results_table.py synthetic DATA     DATA is where the synthetic data set is, or will be written

Finished runs (a result.json, or a row of the table's CSV) are skipped and interrupted ones go on, so that the script can be
stopped and started at will. Every finished run becomes a row of ``docs/results/<table>.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

# The same for every method of a table: only the losses differ.
SETTINGS = {
    "omniglot": (
        "--dataset market --schedule default --epochs 36 --arch resnet10t --neck fc512 --neck_dim 256 "
        "--image_size 64 64 --augment small --no-flip --batchsize 32 --lr 0.05 --new_layer_mult 1 --weight_decay 5e-4 "
        "--eval_every 6"
    ),
    "synthetic": "--dataset synthetic --eval_every 0",
}
FIXED_SWITCH = {"omniglot": "24", "synthetic": "19"}
COLUMNS = (
    "name method noise ratio seed switch_asked switch amp mAP rank1 mAP_net1 rank1_net1 mAP_both rank1_both "
    "mAP_every_6 true_agreement_at_switch true_agreement_at_end warned_epochs seconds torch"
).split()


Row = dict[str, str]


def planned(table: str) -> list[Row]:
    """All runs of a table, the most telling first. A method's rate drops at its switch, or at the table's own."""
    rows: dict[str, Row] = {}

    def add(method: str, noise: str, ratio: float, seed: int, switch: str = FIXED_SWITCH[table]) -> None:
        name = f"{method}-{noise}-{ratio:g}-s{seed}" + (f"-switch{switch}" if method == "core" else "")
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
    return list(rows.values())


def csv_of(table: str) -> Path:
    """The table's file."""
    return PROJECT / "docs" / "results" / f"{table}.csv"


def known(table: str) -> dict[str, Row]:
    """Rows of the CSV by name."""
    if not csv_of(table).exists():
        return {}
    with csv_of(table).open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def run(table: str, row: Row, data: Path, runs: Path, amp: str) -> None:
    """Train one row unless it is finished; an interrupted run goes on."""
    folder = runs / row["name"]
    if (folder / "result.json").exists():
        return
    command = [sys.executable, "-m", "reid_core", "train"]
    if (folder / "checkpoints" / "index.json").exists():
        command += ["--resume", str(folder)]
    else:
        command += [
            *SETTINGS[table].split(),
            "--threads",
            "1",
            "--workers",
            "0",
            "--data_dir",
            str(data),
            "--out",
            str(runs),
            "--name",
            row["name"],
            "--amp",
            amp,
        ]
        command += ["--method", row["method"], "--noise", row["noise"], "--noise_ratio", row["ratio"]]
        command += ["--seed", row["seed"], "--switch", row["switch"]]
        if row["noise"] == "patterned":
            command += ["--pattern_from", str(runs / "baseline-random-0-s1")]
    with (runs / f"{row['name']}.log").open("a") as log:
        status = subprocess.run(command, stdout=log, stderr=log, cwd=PROJECT, check=False).returncode
    sys.stderr.write(f"{row['name']}: {'done' if status == 0 else f'exit code {status}, see its log'}\n")


def collect(table: str, runs: Path) -> None:
    """Write finished runs as rows of the CSV, keeping rows whose run folder is not here."""
    rows = known(table)
    for plan in planned(table):
        folder = runs / plan["name"]
        if (folder / "result.json").exists():
            rows[plan["name"]] = describe(plan, folder)
    csv_of(table).parent.mkdir(exist_ok=True)
    order = [plan["name"] for plan in planned(table)]
    with csv_of(table).open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: order.index(row["name"])))


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


def summary(rows: list[Row]) -> str:
    """A Markdown table, mean and spread over the seeds, and the paired gain of CORE over the baseline."""
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
        share = f"{100 * float(ratio):.0f} % {noise}" if float(ratio) else "none"
        columns = [method, switch, share, str(len(found))]
        columns += [spread([float(row[key]) for row in found]) for key in ("mAP", "rank1")]
        lines.append("| " + " | ".join([*columns, spread(gains, error=True) if gains else ""]) + " |")
    return "\n".join(lines)


def spread(values: list[float], error: bool = False) -> str:
    """Mean, and from two values on the standard deviation, or the standard error of the mean."""
    if len(values) < 2:
        return f"{values[0]:.1f}"
    deviation = statistics.stdev(values) / (len(values) ** 0.5 if error else 1)
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def main() -> None:
    """Run what is missing, then collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=sorted(SETTINGS))
    parser.add_argument("data", type=Path, help="the data set's folder")
    parser.add_argument("--runs", type=Path, help="where run folders lie (default: runs/TABLE)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--only", default="", help="only runs whose name contains this")
    parser.add_argument(
        "--amp", default="bf16", choices=("off", "bf16", "auto"), help="precision of the forward passes"
    )
    parser.add_argument("--collect", action="store_true", help="train nothing, only write the CSV")
    args = parser.parse_args()
    runs = args.runs or PROJECT / "runs" / args.table
    runs.mkdir(parents=True, exist_ok=True)
    if not args.collect:
        done = known(args.table)
        todo = [row for row in planned(args.table) if args.only in row["name"] and row["name"] not in done]
        # Patterned noise needs the clean baseline, which stands earlier in the list.
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda row: run(args.table, row, args.data.resolve(), runs.resolve(), args.amp), todo))
    collect(args.table, runs)
    print(summary(list(known(args.table).values())))
    sys.stderr.write(f"{csv_of(args.table).relative_to(PROJECT)} written\n")


if __name__ == "__main__":
    main()

"""The tables of ``docs/results.md``: every method at every noise, several seeds.

Usage: python tools/results_table.py omniglot DATA      DATA is the unzipped omniglot-reid folder, or its prepared layout
       python tools/results_table.py synthetic DATA     DATA is where the synthetic data set is, or will be written
       python tools/results_table.py cifar DATA         DATA is the unpacked cifar10-subset: train/<class>/ and test/<class>/

Finished runs (a result.json, or a row of the table's CSV) are skipped and interrupted ones go on, so that the script can be
stopped and started at will. Every finished run becomes a row of ``docs/results/<table>.csv``.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _class_table
import _ranking_tables
from _table import Row

PROJECT = Path(__file__).resolve().parents[1]
TABLES = {**_ranking_tables.TABLES, **_class_table.TABLES}


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
            *TABLES[table].settings.split(),
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
        command += TABLES[table].flags(row, runs)
    with (runs / f"{row['name']}.log").open("a") as log:
        status = subprocess.run(command, stdout=log, stderr=log, cwd=PROJECT, check=False).returncode
    sys.stderr.write(f"{row['name']}: {'done' if status == 0 else f'exit code {status}, see its log'}\n")


def collect(table: str, runs: Path) -> None:
    """Write finished runs as rows of the CSV, keeping rows whose run folder is not here."""
    rows = known(table)
    for plan in TABLES[table].planned():
        folder = runs / plan["name"]
        if (folder / "result.json").exists():
            rows[plan["name"]] = TABLES[table].describe(plan, folder)
    csv_of(table).parent.mkdir(exist_ok=True)
    order = [plan["name"] for plan in TABLES[table].planned()]
    with csv_of(table).open("w", newline="") as file:
        writer = csv.DictWriter(file, TABLES[table].columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda row: order.index(row["name"])))


def main() -> None:
    """Run what is missing, then collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=sorted(TABLES))
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
        todo = [row for row in TABLES[args.table].planned() if args.only in row["name"] and row["name"] not in done]
        # Patterned noise needs the clean baseline, which stands earlier in the list.
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda row: run(args.table, row, args.data.resolve(), runs.resolve(), args.amp), todo))
    collect(args.table, runs)
    print(TABLES[args.table].summary(list(known(args.table).values())))
    sys.stderr.write(f"{csv_of(args.table).relative_to(PROJECT)} written\n")


if __name__ == "__main__":
    main()

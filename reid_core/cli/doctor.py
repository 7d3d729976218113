"""Check a data set before training: images, identities, queries without a match, duplicates.

Every image is decoded. Each finding says how to mend it; exit code 3 if training or evaluation could not
work, else 0.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from reid_core.cli import _screen
from reid_core.cli._data import add_data_flags, open_data
from reid_core.data._images import examine_images
from reid_core.errors import DataError, printable
from reid_core.prepare.doctor import PROTOCOLS, DoctorReport, diagnose, image_paths


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of ``doctor``."""
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder or a manifest")
    add_data_flags(parser)
    parser.add_argument("--protocol", choices=PROTOCOLS, help="how queries are ranked; the data set's own if not given")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), metavar="N", help="threads")
    parser.add_argument("--examples", type=int, default=5, metavar="N", help="how many of each finding to show (5)")
    parser.add_argument("--json", action="store_true", help="print everything, with all examples, as JSON")


def run(args: argparse.Namespace) -> int:
    """Read, decode, judge, show."""
    split = open_data(args.data, args)
    with _screen.progress("decoding", "image") as tick:
        facts = examine_images(image_paths(split), tick, args.workers)
    report = diagnose(split, facts, args.protocol)
    if args.json:
        _screen.result(json.dumps(report.to_json(), indent=1))
    else:
        _show(report, args.examples)
    return 0 if report.fit else DataError.exit_code


def _show(report: DoctorReport, examples: int) -> None:
    columns = ("images", "identities", "cameras", "junk", "distractors")
    rows = [(part, *(counts[c] for c in columns)) for part, counts in report.counts.items()]
    _screen.result(_screen.table((f"{report.dataset}, {report.protocol}", *columns), rows))
    for name, (least, median, most) in report.sizes.items():
        _screen.result(f"{name}: {least} to {most} pixels, median {median}")
    for finding in report.findings:
        _screen.result(f"\n{finding.level.upper()}: {printable(finding.text)}.")
        for example in finding.examples[: max(examples, 0)]:
            _screen.result(f"  {printable(example)}")
        if len(finding.examples) > max(examples, 0):
            _screen.result(f"  and {len(finding.examples) - max(examples, 0)} more (--examples N, --json)")
        _screen.result(f"  -> {finding.mend}")
    verdict = "nothing serious was found." if report.fit else "training or evaluation would not work as it is."
    _screen.result(f"\n{verdict[0].upper()}{verdict[1:]}")

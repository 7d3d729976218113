"""What is made of a finished run folder: figures and the list of suspected labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.audit.suspected import suspected_labels
from reid_core.data._csv import read_csv, write_csv
from reid_core.engine.classify import trained_counts
from reid_core.engine.run_folder import read_records
from reid_core.files import read_lines
from reid_core.report.class_figures import accuracy_figure, class_rows, confusion_figure, measured, recall_figure
from reid_core.report.figures import cmc_figure, loss_figure, save

COLUMNS = ("path", "given_label", "given_identity", "suggested_label", "suggested_identity", "score")
EVIDENCE_EPOCHS = 5


def finish_run(folder: Path) -> None:
    """Write ``loss.png``, the figures of what was measured and ``suspected_labels.csv`` into ``folder``; done again, they
    are replaced.
    """
    lines = read_lines(folder / "metrics.jsonl")
    save(loss_figure(lines), folder / "loss.png")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if "cmc" in result:
        save(cmc_figure(result), folder / "cmc.png")
    if "confusion" in result:
        _describe_classes(folder, lines, result)
    _write_suspects(folder, len(lines), result["class_names"])


def _describe_classes(folder: Path, lines: list[dict[str, Any]], result: dict[str, Any]) -> None:
    """``accuracy.png``, ``confusion.png`` (of both networks together where there are two), ``recall.png``, ``classes.csv``."""
    names = result["class_names"]
    save(accuracy_figure(lines), folder / "accuracy.png")
    title, figures = list(measured(result))[-1]
    save(confusion_figure(figures, names, title), folder / "confusion.png")
    save(recall_figure(result, names), folder / "recall.png")
    counts = trained_counts(folder / "labels.csv", len(names))
    header, rows = class_rows(result, names, [None] * len(names) if counts is None else counts.tolist())
    write_csv(folder / "classes.csv", header, rows)


def _write_suspects(folder: Path, num_epochs: int, class_names: list[str]) -> None:
    rows = [row for _, row in read_csv(folder / "labels.csv", ("path", "label"))]
    given = np.array([int(row["label"]) for row in rows], np.int64)
    recorded = sorted((folder / "records").glob("epoch_*.npz"))[-EVIDENCE_EPOCHS:]
    found = suspected_labels(given, [read_records(path) for path in recorded])
    write_csv(
        folder / "suspected_labels.csv",
        COLUMNS,
        (
            (
                rows[s.index]["path"],
                s.given,
                class_names[s.given],
                s.suggestion,
                class_names[s.suggestion],
                f"{s.score:.4f}",
            )
            for s in found
        ),
    )

"""Figures of one run on class folders: accuracy over the epochs, confusion of classes, recall of each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reid_core.errors import printable

MOST_NAMES = 30
"""With more classes than this their names would be a smear: only numbers stand at the axes."""

MOST_COUNTS = 15
"""With more classes than this the counts would not fit their fields."""


def measured(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The figures of each network, then of both together, with their names; ``body`` is result.json or an evaluation."""
    for k, net in enumerate(body["networks"]):
        yield f"network {k}", net
    if body.get("ensemble"):
        yield "both", body["ensemble"]


def confusion_matrix(figures: Mapping[str, Any]) -> NDArray[np.int64]:
    """(C, C) int64 from the rows ``[true, predicted, images]`` that result.json keeps."""
    matrix = np.zeros((len(figures["recall"]), len(figures["recall"])), np.int64)
    for true, predicted, images in figures["confusion"]:
        matrix[true, predicted] = images
    return matrix


def confusion_figure(figures: Mapping[str, Any], class_names: Sequence[str], title: str = "") -> Figure:
    """Share of each true class's images (row) by predicted class (column); counts are written in where there is room."""
    matrix = confusion_matrix(figures)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = len(matrix)
    size = min(max(4.5, 2.5 + 0.4 * classes), 12)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    if classes <= MOST_NAMES:
        axes.set_xticks(range(classes), [_short(name) for name in class_names], rotation=90)
        axes.set_yticks(range(classes), [_short(name) for name in class_names])
    if classes <= MOST_COUNTS:
        for true, predicted in np.argwhere(matrix):
            colour = "white" if share[true, predicted] > 0.5 else "black"
            text = str(matrix[true, predicted])
            axes.text(predicted, true, text, ha="center", va="center", fontsize=8, color=colour)
    return figure


def recall_figure(body: Mapping[str, Any], class_names: Sequence[str]) -> Figure:
    """Recall of each class, a bar a network and one for both; many classes are lines, sorted by network 0's recall."""
    rows = [(name, np.array([np.nan if v is None else v for v in net["recall"]])) for name, net in measured(body)]
    classes = len(class_names)
    figure = Figure(figsize=(min(max(5.5, 2 + 0.45 * classes), 14), 4), layout="constrained")
    axes = figure.subplots()
    if classes <= MOST_NAMES:
        width = 0.8 / len(rows)
        for k, (name, recall) in enumerate(rows):
            axes.bar(np.arange(classes) + (k - (len(rows) - 1) / 2) * width, np.nan_to_num(recall), width, label=name)
        axes.set_xticks(range(classes), [_short(name) for name in class_names], rotation=90)
    else:
        order = np.argsort(rows[0][1], kind="stable")
        for name, recall in rows:
            axes.plot(recall[order], label=name, linewidth=1)
        axes.set(xlabel="classes, the worst of network 0 first")
    axes.set(ylabel="recall", ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return figure


def accuracy_figure(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy (full) and balanced accuracy (dashed) of each network and both, over the epochs that were measured.

    Args:
        lines: metrics.jsonl, a dictionary an epoch, of which at least one was measured.
    """
    seen = [line for line in lines if "evaluation" in line]
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [line["epoch"] for line in seen]
    for k, (name, _) in enumerate(measured(seen[-1]["evaluation"])):
        for key, style in (("accuracy", "-"), ("balanced_accuracy", "--")):
            values = [list(measured(line["evaluation"]))[k][1][key] for line in seen]
            label = name if key == "accuracy" else f"{name}, balanced"
            axes.plot(epochs, values, style, marker=".", color=f"C{k}", label=label)
    axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def class_rows(
    body: Mapping[str, Any], class_names: Sequence[str], train_images: Sequence[int | None]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Header and rows of ``classes.csv``: training and test images, recall of each network and of both, and what network 0
    most often takes the class for.
    """
    found = list(measured(body))
    header = ("class", "train_images", "test_images", *(f"recall {name}" for name, _ in found), "taken_for")
    matrix = confusion_matrix(found[0][1])
    wrong = matrix - np.diag(matrix.diagonal())
    rows = []
    for c, name in enumerate(class_names):
        recalls = [None if net["recall"][c] is None else f"{net['recall'][c]:.4f}" for _, net in found]
        taken = class_names[int(wrong[c].argmax())] if wrong[c].any() else None
        rows.append((name, train_images[c], int(matrix[c].sum()), *recalls, taken))
    return header, rows


def _short(name: str) -> str:
    """``name`` as text that fits an axis and that can be drawn; a dollar sign would start a formula."""
    name = printable(name)
    return (name if len(name) <= 18 else name[:17] + "…").replace("$", r"\$")

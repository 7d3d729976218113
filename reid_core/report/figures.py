"""Figures of one run: losses and agreement over the epochs, rank-k over k."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reid_core.files import write_atomically


def loss_figure(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Losses of all networks (left), and agreement with each other and with the labels (right), over the epochs.

    Args:
        lines: metrics.jsonl, a dictionary an epoch.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [line["epoch"] for line in lines]
    for k in range(len(lines[-1]["losses"])):
        left.plot(epochs, [line["losses"][k] for line in lines], label=f"network {k}")
        right.plot(epochs, [line["given_agreement"][k] for line in lines], label=f"network {k} with given labels")
    if len(lines[-1]["losses"]) > 1:
        right.plot(epochs, [line["agreement"] for line in lines], "k--", label="networks with each other")
    for line in lines:
        if line.get("next_phase"):
            for axes in (left, right):
                axes.axvline(line["epoch"] + 0.5, color="grey", linewidth=0.8)
            # At a share of the height, not at a loss: whatever lies outside the axes would take its room from them.
            place = {"transform": left.get_xaxis_transform(), "va": "top", "clip_on": True}
            left.text(line["epoch"] + 0.7, 0.95, line["next_phase"], color="grey", **place)
    left.set(xlabel="epoch", ylabel="loss")
    right.set(xlabel="epoch", ylabel="share of training images", ylim=(0, 1))
    left.legend()
    right.legend()
    return figure


def cmc_figure(result: Mapping[str, Any]) -> Figure:
    """Rank-k over k for each network and both together; ``result`` is result.json."""
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    curves = {f"network {k}": net for k, net in enumerate(result["networks"])}
    if result.get("ensemble"):
        curves["both"] = result["ensemble"]
    for name, net in curves.items():
        ranks = range(1, len(net["cmc"]) + 1)
        axes.plot(ranks, net["cmc"], label=f"{name}: mAP {net['mAP']:.3f}")
    axes.set(xlabel="k", ylabel="rank-k", title=f"CMC, {result['protocol']} protocol")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as PNG, whole or not at all."""
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the tables beside the figures have the names.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))

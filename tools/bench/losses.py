"""The fused losses: agreement with float64 first, then forward, backward, both, and peak memory.

Usage: python tools/bench/losses.py [--only pair others linear million] [--repeats 7] [--csv FILE]

``pair`` is CORE's loss of two networks at 32 x 751 (one thread), 256 x 10,000 and 256 x 100,000; ``others`` the other losses at
256 x 10,000; ``linear`` classifier and loss together at 256 x 100,000 x 256, and ``million`` the same at 1,000,000 classes,
where the plain form would need 8 GB. Contenders take turns: ours (``native``), the definitions in PyTorch (``torch``),
torch.compile of those (``compiled``), and for the pair what the authors' program composes, written out again here
(``published``): means, so that ours are asked for with ``reduction="mean"``, and as ``native, rows`` without. ``copy`` copies the
logits of one network once; the floor is the bytes that must be moved at that speed. Peaks are those of a fresh process, less what it
held before and less the gradients. Milliseconds and MB.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import functools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_core.losses.balanced_softmax import balanced_softmax_loss
from reid_core.losses.co_refine import co_refine_pair_loss
from reid_core.losses.confidence_penalty import confidence_penalty
from reid_core.losses.linear_co_refine import linear_co_refine_pair_loss
from reid_core.losses.self_refine import label_refine_loss
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy
from reid_core.losses.soft_target_cross_entropy import soft_target_cross_entropy

ROOT = Path(__file__).resolve().parents[2]

Work = Callable[..., Sequence[Tensor]]
"""Tensors to losses."""


@dataclass
class Case:
    """What is measured: ``make`` gives the tensors, ``works`` the contenders by name, ``floor`` the bytes to be moved."""

    name: str
    size: str
    threads: int
    make: Callable[[], list[Tensor]]
    works: dict[str, Work]
    floor: int = 0


def as_published(logits_a: Tensor, logits_b: Tensor) -> list[Tensor]:
    """CORE's loss of both networks as the authors' program puts it together: each term from the logits anew."""
    losses = []
    for logits, peer in ((logits_a, logits_b.detach()), (logits_b, logits_a.detach())):
        taught = functional.softmax(peer, dim=1).max(dim=1).indices
        hard = functional.nll_loss(functional.log_softmax(logits, dim=1), taught)
        soft = -(functional.softmax(peer, dim=1) * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
        losses.append(hard + soft)
    return losses


def make_logits(rows: int, classes: int, networks: int) -> list[Tensor]:
    """Logits of networks that have learnt something: a few are large."""
    generator = torch.Generator().manual_seed(0)
    return [(4 * torch.randn(rows, classes, generator=generator)).requires_grad_() for _ in range(networks)]


def make_classifiers(rows: int, classes: int, width: int) -> list[Tensor]:
    """Embeddings, weight and bias of two networks; their logits are spread as those above."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(2):
        made += [torch.randn(rows, width, generator=generator), torch.randn(classes, width, generator=generator)]
        made[-1].mul_(4 / width**0.5)
        made.append(torch.zeros(classes))
    return [tensor.requires_grad_() for tensor in made]


def plain_linear(*tensors: Tensor, backend: str) -> Sequence[Tensor]:
    """Classifiers first, then the loss on all their logits."""
    logits_a, logits_b = functional.linear(*tensors[:3]), functional.linear(*tensors[3:])
    return co_refine_pair_loss(logits_a, logits_b, backend=backend)


def backends(loss: Callable[..., Any], *rest: Any) -> dict[str, Work]:
    """The compiled op, the definition, and torch.compile of the definition."""

    def work(*tensors: Tensor, backend: str) -> Sequence[Tensor]:
        found = loss(*tensors, *rest, backend=backend)
        return [found] if isinstance(found, Tensor) else found

    plain = functools.partial(work, backend="torch")
    return {"native": functools.partial(work, backend="native"), "torch": plain, "compiled": torch.compile(plain)}


def pair_cases() -> list[Case]:
    """CORE's loss at three sizes. To be moved: both logits read twice, both gradients written."""
    works = backends(functools.partial(co_refine_pair_loss, reduction="mean"))
    works["native, rows"] = functools.partial(co_refine_pair_loss, backend="native")
    works["published"] = as_published
    return [
        Case("co_refine_pair", f"{b} x {c}", threads, functools.partial(make_logits, b, c, 2), works, 6 * 4 * b * c)
        for b, c, threads in ((32, 751, 1), (256, 10_000, 2), (256, 100_000, 2))
    ]


def other_cases() -> list[Case]:
    """The other losses at 256 x 10,000."""
    rows, classes = 256, 10_000
    labels, counts = torch.arange(rows) * 39 % classes, 1 + torch.arange(classes) % 40
    targets = make_logits(rows, classes, 1)[0].detach().flip(1).softmax(dim=1)
    losses: dict[str, tuple[Any, ...]] = {
        "label_refine": (label_refine_loss, labels, 0.4),
        "smoothed_cross_entropy": (smoothed_cross_entropy, labels, 0.1),
        "balanced_softmax": (balanced_softmax_loss, labels, counts, 1.0, 0.1),
        "soft_target_cross_entropy": (soft_target_cross_entropy, targets),
        "confidence_penalty": (confidence_penalty,),
    }
    make = functools.partial(make_logits, rows, classes, 1)
    one = 4 * rows * classes
    return [
        Case(name, f"{rows} x {classes}", 2, make, backends(*loss), (5 if name.startswith("soft") else 3) * one)
        for name, loss in losses.items()
    ]


def linear_case(classes: int, plain: bool) -> Case:
    """Classifier and loss at once, and one after the other."""
    works: dict[str, Work] = {"chunks": linear_co_refine_pair_loss}
    if plain:
        works["native"] = functools.partial(plain_linear, backend="native")
        works["torch"] = functools.partial(plain_linear, backend="torch")
    make = functools.partial(make_classifiers, 256, classes, 256)
    return Case("linear_co_refine_pair", f"256 x {classes} x 256", 2, make, works)


def cases(only: Sequence[str]) -> list[Case]:
    """Those asked for."""
    made = pair_cases() if "pair" in only else []
    made += other_cases() if "others" in only else []
    made += [linear_case(100_000, True)] if "linear" in only else []
    return made + ([linear_case(1_000_000, False)] if "million" in only else [])


def means_of(losses: Sequence[Tensor]) -> list[Tensor]:
    """Of (B,) losses; of what is a mean already, itself."""
    return [loss.mean() if loss.dim() else loss for loss in losses]


def run(work: Work, tensors: Sequence[Tensor]) -> tuple[float, float]:
    """Seconds of the forward and of the backward pass."""
    for tensor in tensors:
        tensor.grad = None
    start = time.perf_counter()
    means = means_of(work(*tensors))
    middle = time.perf_counter()
    torch.autograd.backward(means)  # as the trainer does
    return middle - start, time.perf_counter() - middle


def agree(case: Case) -> None:
    """Stop where losses or the gradients of logits are not those of float64 to a millionth: a fast wrong answer is none."""
    tensors = case.make()
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    plain = case.works["torch"]
    losses = torch.stack(means_of(plain(*exact)))
    losses.sum().backward()
    expected = losses.detach()
    for name, work in case.works.items():
        run(work, tensors)
        found = torch.stack([loss.detach().double() for loss in means_of(work(*tensors))])
        off = float(((found - expected) / expected.abs().clamp_min(1)).abs().max())
        # The mean's gradient is a row's divided by B. Gradients of classifiers are products, rounded as such.
        linear = case.name.startswith("linear")
        scale = 1 if linear else len(tensors[0])
        gap = max(float((t.grad - e.grad).abs().max()) for t, e in zip(tensors, exact)) * scale  # type: ignore[operator]
        print(f"  {name}: losses within {off:.0e}, gradients within {gap:.0e} of float64", flush=True)
        ours = name.startswith(("native", "chunks"))
        if not (off <= (1e-6 if ours else 1e-5) and gap <= (1e-6 if ours and not linear else 1e-4)):
            raise SystemExit(f"{name} of {case.name} {case.size} is wrong: nothing was timed")


def measure(case: Case, repeats: int) -> list[dict[str, Any]]:
    """Medians of all contenders, which take turns; the copy is one of them."""
    tensors = case.make()
    source = tensors[0].detach()
    target = torch.empty_like(source)
    small = sum(tensor.numel() for tensor in tensors) < 1e6
    calls = 50 if small else 1
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in case.works}
    copies = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        for _ in range(calls):
            target.copy_(source)
        copies.append((time.perf_counter() - start) / calls)
        for name, work in case.works.items():
            rounds = [run(work, tensors) for _ in range(calls)]
            if repeat:  # the first one warms up
                times[name].append(tuple(np.mean(rounds, axis=0)))
    copy = float(np.median(copies[1:]))
    floor = case.floor / (2 * source.numel() * 4) * copy
    rows = []
    for name, pairs in times.items():
        forward, backward = np.array(pairs).T * 1e3
        low, middle, high = np.percentile(forward + backward, (20, 50, 80))
        row = {"loss": case.name, "size": case.size, "threads": case.threads, "work": name, "runs": len(pairs)}
        row |= {"forward": float(np.median(forward)), "backward": float(np.median(backward)), "both": middle}
        row |= {"p20": low, "p80": high, "copy": copy * 1e3 if case.floor else "", "floor": floor * 1e3 or ""}
        row["peak"] = peak(case, name)
        rows.append({key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items() if value != ""), flush=True)
    return rows


def peak(case: Case, work: str) -> float | str:
    """MB above inputs and gradients, in a fresh process; empty where the system does not say."""
    if not Path("/proc/self/clear_refs").exists():
        return ""
    command = [sys.executable, __file__, "--peak_of", case.name, case.size, work]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def report_peak(case: Case, work: str) -> None:
    """Print how much more than before the process held at most during one step, gradients apart."""
    torch.set_num_threads(case.threads)
    tensors = case.make()
    run(case.works[work], tensors)  # the compiler, libraries and threads take memory of their own
    for tensor in tensors:
        tensor.grad = None
    ctypes.CDLL(None).malloc_trim(0)
    gradients = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # from here on, VmHWM is that of what follows
    before = status("VmRSS")
    run(case.works[work], tensors)
    print(round(max(0.0, status("VmHWM") - before - gradients), 1))


def status(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(name)


def facts() -> dict[str, Any]:
    """Where and with what this ran."""
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "device": f"{cpu}, {os.cpu_count()} processors",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": found.stdout.strip(),
        "load": round(os.getloadavg()[0], 1),
    }


def ratios(rows: Sequence[dict[str, Any]]) -> None:
    """What ours is against the others."""
    for row in rows:
        ours = next(
            r
            for r in rows
            if (r["loss"], r["size"]) == (row["loss"], row["size"]) and r["work"] in ("native", "chunks")
        )
        if row is not ours:
            print(f"{row['loss']} {row['size']}: {row['work']} / {ours['work']} = {row['both'] / ours['both']:.2f}")
        elif row["copy"] != "":
            print(
                f"{row['loss']} {row['size']}: {row['both'] / row['copy']:.1f} copies of the logits, "
                f"{row['both'] / row['floor']:.1f} times the floor"
            )


def main() -> None:
    """Agreement, times, ratios, and all of it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("pair", "others", "linear", "million")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--peak_of", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        name, size, work = args.peak_of
        report_peak(next(case for case in cases(names) if (case.name, case.size) == (name, size)), work)
        return
    where = facts()
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    rows: list[dict[str, Any]] = []
    for case in cases(args.only):
        print(f"{case.name}, {case.size}, {case.threads} threads")
        torch.set_num_threads(case.threads)
        torch._dynamo.reset()
        if "torch" in case.works:
            agree(case)
        rows += measure(case, args.repeats if "000000" not in case.size else 1)
    ratios(rows)
    with args.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *where], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **where} for row in rows)
    print(f"written to {args.csv}")


if __name__ == "__main__":
    main()

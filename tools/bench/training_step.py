"""Time of one training step of one network: float32 against bfloat16 forward passes, on one thread and on all.

Usage: python tools/bench/training_step.py [--arch resnet10t] [--image_size 64 64] [--batchsize 32] [--repeats 25]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch.nn import functional

from reid_core.engine.optim import OptimizerSettings, build_optimizer
from reid_core.models._network import build_network


def main() -> None:
    """Print a line for each number of threads: medians, and how many times faster bfloat16 is, pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet10t")
    parser.add_argument("--image_size", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--batchsize", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=25)
    args = parser.parse_args()
    height, width = args.image_size
    network = build_network(args.arch, 86, neck="fc512", neck_dim=256, image_size=(height, width))
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(network, OptimizerSettings(lr=0.05))
    images = torch.randn(args.batchsize, 3, height, width).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 86, (args.batchsize,))

    def step(bf16: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = network(images)
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(output.logits.float(), labels).backward()
        optimizer.step()
        return time.perf_counter() - start

    print(f"torch {torch.__version__}, {args.arch}, {args.batchsize} images of {height} x {width}")
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        for bf16 in (False, True) * 3:
            step(bf16)
        pairs = np.array([[step(False), step(True)] for _ in range(args.repeats)])
        full, half = np.median(pairs, axis=0)
        ratios = pairs[:, 0] / pairs[:, 1]
        low, middle, high = np.percentile(ratios, (20, 50, 80))
        print(
            f"{threads} threads: float32 {full:.3f} s, bfloat16 {half:.3f} s, ratio {middle:.2f} (20th to 80th percentile "
            f"{low:.2f} to {high:.2f}), medians of {args.repeats} pairs"
        )


if __name__ == "__main__":
    main()

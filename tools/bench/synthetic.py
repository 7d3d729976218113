"""Speed of the synthetic renderer on one core: images a second, drawn and drawn with JPEG coding.

Usage: python tools/bench/synthetic.py [--images 300] [--repeats 9] [--size 128 64]
"""

from __future__ import annotations

import argparse
import io
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reid_core.data.synthetic import render


def rates(work: Callable[[int], object], images: int, repeats: int) -> tuple[float, float, float]:
    """Images a second: median, 20th and 80th percentile, of processor time so that a busy machine does not count."""
    found = []
    for repeat in range(repeats):
        start = time.process_time()
        for number in range(images):
            work(repeat * images + number)
        found.append(images / (time.process_time() - start))
    return float(np.median(found)), float(np.percentile(found, 20)), float(np.percentile(found, 80))


def main() -> None:
    """Print one line a task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 64))
    args = parser.parse_args()
    size = (args.size[0], args.size[1])

    def draw(number: int) -> object:
        return render(number // 18, number % 6, number % 3, seed=0, size=size)

    def draw_and_pack(number: int) -> None:
        render(number // 18, number % 6, number % 3, seed=0, size=size).save(io.BytesIO(), "JPEG", quality=90)

    for number in range(12):  # the six scenes are drawn once
        draw(number)
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, Pillow {PIL.__version__}, {platform.machine()}")
    for title, work in (("render", draw), ("render + JPEG", draw_and_pack)):
        median, low, high = rates(work, args.images, args.repeats)
        print(f"{title}: {median:.0f} images/s (20th to 80th percentile {low:.0f} to {high:.0f}), {size[0]}x{size[1]}")


if __name__ == "__main__":
    main()

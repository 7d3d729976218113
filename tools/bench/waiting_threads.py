"""What spinning OpenMP threads cost on a busy machine: training steps with OMP_WAIT_POLICY active and passive.

Usage: python tools/bench/waiting_threads.py [--busy N] [--seconds 20]     N other processes keep the cores busy
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

STEP = """
import sys, time
import timm, torch
seconds = float(sys.argv[1])
net = timm.create_model("resnet10t", num_classes=60).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
images = torch.randn(32, 3, 64, 64).to(memory_format=torch.channels_last)
labels = torch.randint(0, 60, (32,))
def step():
    loss = torch.nn.functional.cross_entropy(net(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
step()
times, end = [], time.perf_counter() + seconds
while time.perf_counter() < end or len(times) < 3:
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
print(sorted(times)[len(times) // 2])
"""
BUSY = "while True: pass"


def main() -> None:
    """Print the median step for each policy, with idle and with busy cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    for busy in (0, args.busy):
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
        try:
            medians = {}
            for policy in ("ACTIVE", "PASSIVE"):
                environment = {**os.environ, "OMP_WAIT_POLICY": policy}
                command = [sys.executable, "-c", STEP, str(args.seconds)]
                medians[policy] = float(
                    subprocess.run(command, env=environment, capture_output=True, check=True).stdout
                )
        finally:
            for other in others:
                other.kill()
        ratio = medians["ACTIVE"] / medians["PASSIVE"]
        print(
            f"{busy} busy processes: step active {medians['ACTIVE']:.3f} s, passive {medians['PASSIVE']:.3f} s, ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()

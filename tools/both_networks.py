"""How two trained networks rank together: by the mean of their distances (ours), or of their embeddings.

Usage: python tools/both_networks.py RUN [DATA] [--checkpoint last]      RUN is a run folder of two networks
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from reid_core.config import TrainConfig
from reid_core.data._dataset import EvalImages, eval_loader
from reid_core.data._transforms import eval_transform
from reid_core.engine.loading import load_networks
from reid_core.engine.predict import predict
from reid_core.engine.run_data import read_split
from reid_core.metrics.rank import rank_metrics


def main() -> None:
    """Print mAP and rank-1 of each network and of both ways of taking them together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--checkpoint", default="last")
    args = parser.parse_args()
    trained = load_networks(args.run, args.checkpoint)
    config = TrainConfig(dataset=trained.config["dataset"], data_dir=args.data or trained.config["data_dir"])
    split = read_split(config, lambda title: lambda done, total: None)
    if not split.query or not split.gallery:
        parser.error(f"{split.root} has no query or no gallery: its images are not ranked")
    samples, queries = split.query + split.gallery, len(split.query)
    size = trained.identity["image_size"]
    transform = eval_transform((size[0], size[1]), **trained.identity["view"])
    loader = eval_loader(EvalImages(split.root, samples, transform), 64, 0)
    flip = bool(trained.config.get("flip"))
    found = [predict(network, loader, torch.device("cpu"), flip).embedding for network in trained.networks]
    pids = np.array([{"distractor": -2, "junk": -1}.get(s.role, s.pid) for s in samples])
    camids = np.array([s.camid for s in samples])

    def show(title: str, distances: np.ndarray) -> None:
        ids = (pids[:queries], pids[queries:], camids[:queries], camids[queries:])
        result = rank_metrics(distances, *ids, max_rank=1, protocol=split.protocol)
        print(f"{title:<20} mAP {100 * result.mAP:.1f}  rank-1 {100 * result.rank(1):.1f}")

    distances = [1 - matrix[:queries] @ matrix[queries:].T for matrix in found]
    for k, matrix in enumerate(distances):
        show(f"network {k}", matrix)
    show("mean of distances", np.mean(distances, axis=0))
    if len({matrix.shape[1] for matrix in found}) > 1:
        print("mean of embeddings   none: they differ in width")
        return
    both = np.mean(found, axis=0)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    show("mean of embeddings", 1 - both[:queries] @ both[queries:].T)


if __name__ == "__main__":
    main()

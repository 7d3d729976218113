"""One pass of a network over a loader: it serves evaluation, patterned noise, relabelling and the audit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_core.models._network import Network
from reid_core.types import Predictions


def predict(
    network: Network,
    loader: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    flip: bool,
    progress: Callable[[int], None] | None = None,
    *,
    logits: bool = True,
) -> Predictions:
    """Embeddings of unit length and logits of all images.

    Args:
        network: left in the mode it was in.
        loader: batches of positions (B,) and images (B, 3, H, W).
        flip: also see the mirror image: ``f = n(n(f(x)) + n(f(x')))`` with n the L2 normalisation (eps 1e-12),
            and the sum of both logits.
        progress: called with the number of images done after each batch.
        logits: False leaves them out, (N, 0): evaluation does not look at them.
    """
    training = network.training
    network.eval()
    embeddings, scores, index = [], [], []
    with torch.inference_mode():
        for rows, images in loader:
            images = images.to(device).contiguous(memory_format=torch.channels_last)
            output = network(images)
            embedding = functional.normalize(output.embedding.float(), eps=1e-12)
            mirrored = network(images.flip(3)) if flip else None
            if mirrored is not None:
                embedding = functional.normalize(
                    embedding + functional.normalize(mirrored.embedding.float(), eps=1e-12), eps=1e-12
                )
            embeddings.append(embedding.cpu().numpy())
            made = [one.logits.float() for one in (output, mirrored) if one is not None and logits]
            scores.append((sum(made[1:], made[0]) if made else embedding[:, :0]).cpu().numpy())
            index.append(rows.numpy())
            if progress is not None:
                progress(sum(map(len, index)))
    network.train(training)
    return Predictions(np.concatenate(embeddings), np.concatenate(scores), np.concatenate(index).astype(np.int64))

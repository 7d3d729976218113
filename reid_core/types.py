"""The few values that the parts hand to each other. Data only; nothing here reads a file or knows a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Role = Literal["identity", "distractor", "junk"]


@dataclass(frozen=True)
class Sample:
    """One image of a data set, known by its file name alone.

    Attributes:
        path: relative to ``Split.root``, with forward slashes.
        pid: the data set's identity number.
        camid: camera, counted from 0; -1 where the data have none.
        role: ``distractor`` images can never match a query, ``junk`` images are left out of every ranking.
    """

    path: str
    pid: int
    camid: int
    role: Role = "identity"


@dataclass(frozen=True)
class Split:
    """Training images of a data set, and what is measured: query and gallery (retrieval) or test (classification).
    The order is deterministic.

    Attributes:
        dataset: the reader's name.
        root: the folder that ``Sample.path`` is relative to.
        train_folder: the training folder relative to ``root`` ("" for ``root``): label files name images from there.
        train, query, gallery, test: sorted by path. A data set has query and gallery, or test, or neither.
        protocol: how query and gallery are ranked.
        class_names: of data made for classification, the name of every ``Sample.pid``, which then count from 0; else ().
    """

    dataset: str
    root: Path
    train_folder: str
    train: tuple[Sample, ...]
    query: tuple[Sample, ...] = ()
    gallery: tuple[Sample, ...] = ()
    protocol: str = "market1501"
    test: tuple[Sample, ...] = ()
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoisyLabels:
    """Training labels after a noise model.

    Attributes:
        given: (N,) int64 in [0, C), what training sees.
        true: (N,) int64, or None where it is not known; -1 for an identity that is no class, since its own was cut off.
        kind: name of the noise model, or ``none`` or ``file``.
        ratio: the ratio asked for.
        seed: the noise's own seed.
    """

    given: NDArray[np.int64]
    true: NDArray[np.int64] | None
    kind: str
    ratio: float
    seed: int

    @property
    def clean(self) -> NDArray[np.bool_] | None:
        """(N,) bool: given equals true; None where the truth is not known."""
        return None if self.true is None else self.given == self.true


@dataclass(frozen=True)
class Batch:
    """What a method may see of B samples. True labels are not in it.

    Attributes:
        index: (B,) int64 positions in the training set; they address every per-sample memory.
        labels: (B,) int64 given labels.
        camids: (B,) int64.
        images: (B, 3, H, W) float by view name (``weak``, ``strong``).
    """

    index: torch.Tensor
    labels: torch.Tensor
    camids: torch.Tensor
    images: Mapping[str, torch.Tensor]


class Classifier(NamedTuple):
    """What logits are made of: ``features @ weight.T + bias``; (B, D), (C, D) and (C,) or None."""

    features: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None


@dataclass(frozen=True)
class NetOutput:
    """What a network says of B images, the same in training and evaluation mode.

    Attributes:
        made_logits: (B, C) before softmax, or None where there are too many classes to make them before they are asked for.
        embedding: (B, D).
        classifier: what makes the logits then; losses can be worked out from it without ever holding all of them.
    """

    made_logits: torch.Tensor | None
    embedding: torch.Tensor
    classifier: Classifier | None = None

    @cached_property
    def logits(self) -> torch.Tensor:
        """(B, C) before softmax; made now where they were not."""
        if self.made_logits is not None:
            return self.made_logits
        if self.classifier is None:
            raise ValueError("this output has neither logits nor a classifier that makes them")
        features, weight, bias = self.classifier
        made = features @ weight.t()
        return made if bias is None else made + bias

    def float(self) -> NetOutput:
        """In float32, as losses want it."""
        made = None if self.made_logits is None else self.made_logits.float()
        classifier = (
            None if self.classifier is None else self.classifier._replace(features=self.classifier.features.float())
        )
        return NetOutput(made, self.embedding.float(), classifier)


@dataclass(frozen=True)
class StepResult:
    """Losses and per-sample records of one step.

    Attributes:
        losses: one scalar a network, reaching that network only, or None: its optimizer then skips the step.
        records: detached, by name, (B,) or (K, B) with K networks. Shared names: ``loss``, ``selected``,
            ``weight``, ``refined_label``, ``given_loss``.
    """

    losses: Sequence[torch.Tensor | None]
    records: Mapping[str, torch.Tensor]


EpochRecords = Mapping[str, NDArray[Any]]
"""Records of a whole epoch by name: (N,) or (K, N), NaN (or -1 for integers) where a sample was not visited."""


class Method(Protocol):
    """What the trainer calls. Networks are counted from 0; ``outputs`` holds one NetOutput a network."""

    num_networks: int

    def begin(self, labels: NDArray[np.int64], num_classes: int) -> None:
        """Called once before the first step, and again when a run goes on: (N,) given labels in [0, num_classes)."""

    def step(self, outputs: Sequence[NetOutput], batch: Batch) -> StepResult:
        """Losses and records of one batch."""

    def start_epoch(self, epoch: int) -> None:
        """Called before the first batch of ``epoch``, counted from 0 over the whole run."""

    def end_epoch(self, records: EpochRecords) -> None:
        """Called after the last batch with everything recorded in the epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and strings; enough to go on to the same bits."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""


@dataclass(frozen=True)
class EpochSummary:
    """What the logs say of an epoch: the only evidence a phase may end on. No true label is in it.

    Attributes:
        epoch: counted from 0 over the run.
        phase: position of the phase in the recipe.
        losses: mean loss of each network.
        given_loss: mean cross-entropy with the given labels, each network.
        agreement: share of samples on which all networks predict the same; 1 for a single network.
        given_agreement: share of samples predicted as their given label, each network.
        distinct: number of distinct identities predicted, each network.
        confidence: mean of the highest probability, each network.
        num_classes: C.
    """

    epoch: int
    phase: int
    losses: tuple[float, ...]
    given_loss: tuple[float, ...]
    agreement: float
    given_agreement: tuple[float, ...]
    distinct: tuple[int, ...]
    confidence: tuple[float, ...]
    num_classes: int


EndRule = Callable[[Sequence[EpochSummary]], bool]
"""Called after each epoch with all summaries so far; True ends the phase early."""


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one method.

    Attributes:
        name: shown on the screen and in the logs.
        method: the method object.
        epochs: how long at most.
        min_epochs: ``end_when`` is not asked before that many epochs of the phase.
        end_when: a rule that may end the phase early; the next phase gets the epochs that are left.
        rate: factor of the base learning rate as a function of the run's epoch and the epoch within the phase.
        dropout: False leaves the networks' dropout layers inactive in training too.
        frozen: the backbone neither learns nor changes its statistics; the other layers train.
        image_size: (height, width) of training and measuring in this phase, or None: the run's.
        lr: base learning rate of this phase, or None: the run's.
        watch_collapse: the networks' own predictions teach here, so that they may come to agree on being wrong: a warning.
    """

    name: str
    method: Method
    epochs: int
    rate: Callable[[int, int], float]
    min_epochs: int = 0
    end_when: EndRule | None = None
    watch_collapse: bool = False
    dropout: bool = True
    frozen: bool = False
    image_size: tuple[int, int] | None = None
    lr: float | None = None


@dataclass(frozen=True)
class Predictions:
    """One pass of one network over a loader.

    Attributes:
        embedding: (N, D) float32; for image plus mirror image, unit length.
        logits: (N, C) float32, summed over image and mirror image where both were seen; (N, 0) where none were asked for.
        index: (N,) int64 positions in the list of samples.
    """

    embedding: NDArray[np.float32]
    logits: NDArray[np.float32]
    index: NDArray[np.int64]


@dataclass(frozen=True)
class RankResult:
    """The outcome of ranking a gallery for every query. Arrays are read-only.

    Attributes:
        cmc: (max_rank,) float64, cumulative matching characteristic; ``cmc[k-1]`` is rank-k, a fraction.
        mAP: mean of ``ap`` (step rule). mAP_trapezoid: the same by Market-1501's original rule.
        mINP: mean inverse negative penalty.
        ap, ap_trapezoid, inp: (Q,) float64; NaN for queries without a match.
        first_hit: (Q,) int64, 0-based rank of the first match; -1 without one.
        num_queries, num_valid_queries: all queries, and those with a match.
        num_junk, num_dropped: gallery images with pid -1; pairs dropped for same identity and camera.
        protocol: market1501, cuhk03 or any-camera.
        tie_share: share of valid queries' counted matches at exactly the distance of some non-match.
    """

    cmc: NDArray[np.float64]
    mAP: float
    mAP_trapezoid: float
    mINP: float
    ap: NDArray[np.float64]
    ap_trapezoid: NDArray[np.float64]
    inp: NDArray[np.float64]
    first_hit: NDArray[np.int64]
    num_queries: int
    num_valid_queries: int
    num_junk: int
    num_dropped: int
    protocol: str
    tie_share: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("cmc", "ap", "ap_trapezoid", "inp", "first_hit"):
            getattr(self, name).setflags(write=False)

    def rank(self, k: int) -> float:
        """CMC at rank ``k`` (from 1), a fraction; the last value beyond ``max_rank``."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers for ``result.json``; fractions, not percent."""
        return {
            "mAP": self.mAP,
            "mAP_trapezoid": self.mAP_trapezoid,
            "mINP": self.mINP,
            "rank1": self.rank(1),
            "rank5": self.rank(5),
            "rank10": self.rank(10),
            "cmc": [float(v) for v in self.cmc],
            "num_queries": self.num_queries,
            "num_valid_queries": self.num_valid_queries,
            "protocol": self.protocol,
            "tie_share": self.tie_share,
        }

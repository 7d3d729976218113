"""CUHK03: five pairs of cameras on a campus, boxes by a detector (detected) and by hand (labeled).

Reference:
    W. Li, R. Zhao, T. Xiao, X. Wang, "DeepReID: Deep Filter Pairing Neural Network for Person Re-identification",
    CVPR 2014 (data and the classic protocol); Z. Zhong, L. Zheng, D. Cao, S. Li, "Re-ranking Person
    Re-identification with k-reciprocal Encoding", CVPR 2017 (the new protocol, CUHK03-NP).

Statistics, commonly quoted and not checked against the owners' page: new protocol, 767 training identities (7,365
images detected, 7,368 labeled), 1,400 queries of 700, gallery 5,332 detected and 5,328 labeled. Classic protocol:
1,467 identities, of which 100 are the test in each of 20 published splits.

File names: ``0003_c1_21.png`` (new) is identity 3, camera 1. ``1_001_2_07.png`` (classic) is camera pair 1, identity 1
of that pair, view 2, image 7; its camera is 2 (pair - 1) + view, counted from 1, and its pid here is
10,000 pair + identity, because every pair counts its identities from 1. The names decide the protocol: classic names
are ranked by ``cuhk03`` (single gallery shot), new ones by ``market1501``. pid 0 has no special meaning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from reid_core.data import _layout
from reid_core.errors import DataError
from reid_core.types import Role, Sample, Split

TITLE = "CUHK03"
TRAIN_DEFAULTS = {"noise_ratio": 0.2}  # as the reference program has it
PATTERN = "PID_cCAMERA_IMAGE.png, as in 0003_c1_21.png, or PAIR_PID_VIEW_IMAGE.png, as in 1_001_2_07.png"
PAIR_STEP = 10_000
_NEW = re.compile(r"([0-9]{1,9})_c([12])_[0-9]+\.")
_CLASSIC = re.compile(r"([1-5])_([0-9]{1,4})_([12])_[0-9]+\.")


def parse(name: str) -> tuple[int, int, Role]:
    """(pid, camid from 0, ``identity``) of a file name of either protocol.

    Raises:
        DataError: the name fits neither pattern.
    """
    if match := _NEW.match(name):
        return int(match[1]), int(match[2]) - 1, "identity"
    if match := _CLASSIC.match(name):
        pair, pid, view = (int(part) for part in match.groups())
        return PAIR_STEP * pair + pid, 2 * (pair - 1) + view - 1, "identity"
    raise _layout.misfit(name, TITLE, PATTERN)


def is_classic(name: str) -> bool:
    """Whether a file name is one of the classic protocol."""
    return _CLASSIC.match(name) is not None


def folder_of(name: str) -> str:
    """Identity folder of a file name: ``0003``, or ``1_001`` where the pair belongs to the identity."""
    return "_".join(name.split("_")[: 2 if is_classic(name) else 1])


def protocol_of(samples: Sequence[Sample]) -> str:
    """``cuhk03`` for classic names and ``market1501`` for new ones.

    Raises:
        DataError: both kinds are there.
    """
    kinds = {is_classic(s.path.rsplit("/", 1)[-1]): s.path for s in samples}
    if len(kinds) == 2:
        raise DataError(
            f"names of both CUHK03 protocols are mixed ({kinds[True]!r} and {kinds[False]!r}); "
            "prepare each protocol into a folder of its own."
        )
    return "cuhk03" if True in kinds else "market1501"


LAYOUT = _layout.Layout(
    dataset="cuhk03",
    title=TITLE,
    pattern=PATTERN,
    parse=parse,
    folders={"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"},
    usual_names=("cuhk03", "CUHK03-NP", "detected", "pytorch"),
    published={"train_all": (7_365, 767), "query": (1_400, 700), "gallery": (5_332, 700)},
    variants={
        "labeled": {"train_all": (7_368, 767), "query": (1_400, 700), "gallery": (5_328, 700)},
        "classic": {"train_all": (None, 1_367), "query": (None, 100), "gallery": (None, 100)},
    },
    protocol=protocol_of,
    folder_of=folder_of,
)


def read(root: Path, *, train_split: str = "train") -> Split:
    """Records of CUHK03-NP (the folder ``detected`` or ``labeled``) or of either protocol as prepared.

    Raises:
        UsageError: ``train_split`` is neither ``train`` nor ``train_all``.
        DataError: a folder is missing, wrong or empty, a file name does not fit, or the protocols are mixed.
    """
    return _layout.read(LAYOUT, root, train_split)

"""Market-1501: six cameras in front of a supermarket, boxes by a detector.

Reference:
    L. Zheng, L. Shen, L. Tian, S. Wang, J. Wang, Q. Tian, "Scalable Person Re-identification: A Benchmark", ICCV 2015.

Statistics: 1,501 identities. 12,936 training images of 751; 3,368 queries of 750; a gallery of 19,732, of which
13,115 show test identities, 2,798 are distractors (pid 0; the owners' page says 2,793) and 3,819 are junk (pid -1).
``gt_bbox`` has 25,259 boxes drawn by hand, of all 1,501 identities.

File name: ``0002_c1s1_000451_03.jpg`` is identity 2, camera 1, sequence 1, frame 451, box 3; junk is ``-1_c1s1_...``.
"""

from __future__ import annotations

import re
from pathlib import Path

from reid_core.data import _layout
from reid_core.types import Role, Split

TITLE = "Market-1501"
TRAIN_DEFAULTS = {"noise_ratio": 0.2}  # as the reference program has it
PATTERN = "PID_cCAMERAsSEQUENCE_FRAME_BOX.jpg, as in 0002_c1s1_000451_03.jpg (PID -1 is junk, 0 a distractor)"
_NAME = re.compile(r"(-1|[0-9]{1,9})_c([0-9]{1,4})s[0-9]")


def parse(name: str) -> tuple[int, int, Role]:
    """(pid, camid from 0, role) of a file name; pid 0 is a distractor and -1 junk.

    Raises:
        DataError: the name does not fit the pattern; cameras count from 1.
    """
    match = _NAME.match(name)
    if match is None or int(match[2]) < 1:
        raise _layout.misfit(name, TITLE, PATTERN)
    pid = int(match[1])
    role: Role = "junk" if pid == -1 else "distractor" if pid == 0 else "identity"
    return pid, int(match[2]) - 1, role


LAYOUT = _layout.Layout(
    dataset="market1501",
    title=TITLE,
    pattern=PATTERN,
    parse=parse,
    folders={
        "train": "bounding_box_train",
        "query": "query",
        "gallery": "bounding_box_test",
        "multi-query": "gt_bbox",
    },
    usual_names=("market", "market1501", "Market-1501", "Market-1501-v15.09.15", "pytorch"),
    published={
        "train_all": (12_936, 751),
        "train": (12_185, 751),
        "val": (751, 751),
        "query": (3_368, 750),
        "gallery": (19_732, 750),
        "multi-query": (25_259, 1_501),
    },
)


def read(root: Path, *, train_split: str = "train") -> Split:
    """Records of the data set in ``root``, released or prepared; ``train_split`` is ``train`` or ``train_all``.

    Raises:
        UsageError: another ``train_split``.
        DataError: a folder is missing, wrong or empty, or a file name does not fit.
    """
    return _layout.read(LAYOUT, root, train_split)

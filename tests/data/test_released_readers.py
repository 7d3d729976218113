"""Readers of released data sets: names, layouts, and what they refuse."""

from __future__ import annotations

import importlib
import logging
import os
import re
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from released_layouts import MARKET, PREPARED, fill

from reid_core.data import cuhk03, dukemtmc_reid, market1501, msmt17
from reid_core.data._find import resolve_name
from reid_core.errors import DataError, UsageError

READERS = {"market1501": market1501, "dukemtmc_reid": dukemtmc_reid, "cuhk03": cuhk03, "msmt17": msmt17}

GOOD = [
    ("market1501", "0002_c1s1_000451_03.jpg", (2, 0, "identity")),
    ("market1501", "1501_c6s4_001877_01.JPG", (1501, 5, "identity")),
    ("market1501", "-1_c3s1_000401_03.jpg", (-1, 2, "junk")),
    ("market1501", "0000_c5s2_002400_02.jpg", (0, 4, "distractor")),
    ("market1501", "0007_c12s1_000001_00.jpg", (7, 11, "identity")),  # two-digit camera
    ("market1501", "0007_c2s1_000001_00 copy ü.jpeg", (7, 1, "identity")),
    ("dukemtmc_reid", "0002_c1_f0044158.jpg", (2, 0, "identity")),
    ("dukemtmc_reid", "7140_c8_f0167890.jpg", (7140, 7, "identity")),
    ("dukemtmc_reid", "-1_c8_f0167890.jpg", (-1, 7, "junk")),
    ("dukemtmc_reid", "0000_c8_f0167890.jpg", (0, 7, "distractor")),
    ("cuhk03", "0003_c1_21.png", (3, 0, "identity")),
    ("cuhk03", "0000_c2_1.png", (0, 1, "identity")),
    ("cuhk03", "1_001_1_01.png", (10_001, 0, "identity")),  # camera 2 (1 - 1) + 1, from 1
    ("cuhk03", "5_049_2_07.png", (50_049, 9, "identity")),  # camera 2 (5 - 1) + 2, from 1
    ("msmt17", "0000_000_01_0303morning_0015_0.jpg", (0, 0, "identity")),
    ("msmt17", "3059_021_15_0302noon_1024_1.jpg", (3059, 14, "identity")),
]
BAD = [
    ("market1501", "0002_c0s1_000451_03.jpg"),
    ("market1501", "-2_c1s1_000451_03.jpg"),
    ("market1501", "0002_c1_f0044158.jpg"),
    ("market1501", "x0002_c1s1_000451_03.jpg"),
    ("market1501", "\uff10\uff12_c1s1_000451_03.jpg"),  # digits of another script
    ("market1501", "1_001_1_01.png"),
    ("dukemtmc_reid", "0002_c1s1_000451_03.jpg"),
    ("dukemtmc_reid", "0003_c1_21.png"),
    ("cuhk03", "-1_c1s1_000401_03.jpg"),  # the trap: another parser that "works" on junk
    ("cuhk03", "0002_c1s1_000451_03.jpg"),
    ("cuhk03", "0002_c1_f0044158.jpg"),
    ("cuhk03", "0003_c3_21.png"),
    ("cuhk03", "6_001_1_01.png"),
    ("cuhk03", "1_001_3_01.png"),
    ("msmt17", "1_001_1_01.png"),
    ("msmt17", "-1_c1s1_000401_03.jpg"),
    ("msmt17", "0000_000_00_0303morning_0015_0.jpg"),
    ("msmt17", "0000_000_1_0303morning_0015_0.jpg"),
]


@pytest.mark.parametrize(("dataset", "name", "expected"), GOOD)
def test_names_are_parsed(dataset, name, expected):
    assert READERS[dataset].parse(name) == expected


@pytest.mark.parametrize(("dataset", "name"), BAD)
def test_names_of_another_kind_are_refused_with_the_pattern(dataset, name):
    with pytest.raises(DataError) as caught:
        READERS[dataset].parse(name)
    assert "expected" in str(caught.value)
    assert READERS[dataset].PATTERN.split(",")[0] in str(caught.value)


@pytest.mark.parametrize("name", [g[1] for g in GOOD])
def test_no_name_is_read_by_two_parsers(name):
    fitting = []
    for dataset, module in READERS.items():
        try:
            module.parse(name)
        except DataError:
            continue
        fitting.append(dataset)
    assert fitting == [dataset for dataset, good, _ in GOOD if good == name]


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text):
    for module in READERS.values():
        try:
            pid, camid, role = module.parse(text)
        except DataError:
            continue
        assert pid >= -1 and camid >= 0 and role in ("identity", "distractor", "junk")


@given(st.integers(-1, 999_999_999), st.integers(1, 9999))
def test_market_names_by_a_second_opinion(pid, camera):
    text = "-1" if pid == -1 else f"{pid:04d}"
    first, rest = f"{text}_c{camera}s1_000001_00.jpg".split("_", 1)
    expected = (int(first), int(rest[1 : rest.index("s")]) - 1)
    assert market1501.parse(f"{text}_c{camera}s1_000001_00.jpg")[:2] == expected


def test_released_layout(tmp_path):
    split = market1501.read(fill(tmp_path / "ümlaut and space", *MARKET))
    assert [s.path for s in split.train] == sorted(p for p in MARKET[:3])
    assert [(s.pid, s.camid, s.role) for s in split.gallery] == [
        (-1, 0, "junk"),
        (0, 0, "distractor"),
        (1, 9, "identity"),
    ]
    assert (split.dataset, split.train_folder, split.protocol) == ("market1501", "bounding_box_train", "market1501")
    assert [(s.pid, s.camid) for s in split.query] == [(1, 0)]
    assert market1501.read(split.root, train_split="train_all") == split


def test_prepared_layout_and_its_training_folders(tmp_path):
    root = fill(tmp_path, *PREPARED)
    split = market1501.read(root)
    assert [s.path for s in split.train] == ["train/0002/0002_c2s1_000452_03.jpg"]
    assert split.train_folder == "train"
    whole = market1501.read(root, train_split="train_all")
    assert [s.path for s in whole.train] == list(PREPARED[1:3]) and whole.train_folder == "train_all"
    assert [s.role for s in whole.gallery] == ["junk", "identity"]
    with pytest.raises(UsageError, match="'train_all'"):
        market1501.read(root, train_split="trainall")


def test_the_name_decides_and_not_the_folder(tmp_path, caplog):
    root = fill(tmp_path, *PREPARED, "train/0099/0002_c4s1_000001_00.jpg")
    with caplog.at_level(logging.WARNING):
        split = market1501.read(root)
    assert {s.pid for s in split.train} == {2}
    assert "1 images" in caplog.text and "0099" in caplog.text


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    root = fill(tmp_path, *MARKET)
    expected = market1501.read(root)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            self.entries = sorted(scandir(path), key=lambda e: e.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert market1501.read(root) == expected


def test_names_that_do_not_fit_are_counted_and_shown(tmp_path):
    root = fill(tmp_path, *MARKET, *(f"bounding_box_train/0002_c1_f004415{i}.jpg" for i in range(8)))
    with pytest.raises(DataError) as caught:
        market1501.read(root)
    text = str(caught.value)
    assert "8 of 11" in text and "'0002_c1_f0044150.jpg'" in text and "3 more" in text
    assert "dukemtmc_reid" in text, "it says what they are"


def test_control_characters_in_names_are_shown_and_not_sent(tmp_path):
    root = fill(tmp_path, *MARKET, "query/\x1b[2J\n[INFO] fake.jpg")
    with pytest.raises(DataError) as caught:
        market1501.read(root)
    text = str(caught.value)
    assert "\x1b" not in text and "\n" not in text and "x1b[2J" in text


@pytest.mark.parametrize("pid", ["0000", "-1"])
@pytest.mark.parametrize("folder", ["bounding_box_train", "query"])
def test_distractors_and_junk_outside_the_gallery_are_refused(tmp_path, pid, folder):
    root = fill(tmp_path, *MARKET, f"{folder}/{pid}_c1s1_000001_00.jpg")
    with pytest.raises(DataError, match="belong to the gallery"):
        market1501.read(root)


def test_duke_gallery_without_a_query_is_distraction(tmp_path):
    root = fill(
        tmp_path,
        "bounding_box_train/0002_c1_f0044158.jpg",
        "bounding_box_test/0005_c1_f0000001.jpg",
        "bounding_box_test/0006_c1_f0000001.jpg",
        "query/0005_c2_f0000001.jpg",
    )
    assert [s.role for s in dukemtmc_reid.read(root).gallery] == ["identity", "distractor"]


def test_cuhk03_names_decide_the_protocol(tmp_path):
    new = fill(
        tmp_path / "new", "bounding_box_train/0001_c1_1.png", "bounding_box_test/0002_c1_1.png", "query/0002_c2_6.png"
    )
    assert cuhk03.read(new).protocol == "market1501"
    classic = fill(
        tmp_path / "classic", "train/1_001/1_001_1_01.png", "gallery/2_001/2_001_1_01.png", "query/2_001/2_001_2_06.png"
    )
    split = cuhk03.read(classic)
    assert split.protocol == "cuhk03"
    assert split.train[0].pid != split.query[0].pid, "identity 1 of pair 1 is not identity 1 of pair 2"
    fill(classic, "train/0001/0001_c1_1.png")
    with pytest.raises(DataError, match="mixed"):
        cuhk03.read(classic)


def msmt(root: Path, train: str = "train", test: str = "test") -> Path:
    fill(
        root,
        f"{train}/0000/0000_000_01_0303morning_0015_0.jpg",
        f"{train}/0000/0000_001_15_0303morning_0015_0.jpg",
        f"{train}/0001/0001_000_02_0303noon_0015_0.jpg",
        f"{test}/0000/0000_000_01_0303morning_0016_0.jpg",
        f"{test}/0000/0000_001_02_0303morning_0016_0.jpg",
        f"{test}/0000/0000_002_02_0303morning_0017_0.jpg",  # in no list
    )
    (root / "list_train.txt").write_text(
        "0000/0000_001_15_0303morning_0015_0.jpg 0\n0000/0000_000_01_0303morning_0015_0.jpg 0\n"
    )
    (root / "list_val.txt").write_text("0001/0001_000_02_0303noon_0015_0.jpg 1\n\n")
    (root / "list_query.txt").write_text("0000/0000_000_01_0303morning_0016_0.jpg 0\n")
    (root / "list_gallery.txt").write_text("0000/0000_001_02_0303morning_0016_0.jpg 0\r\n")
    return root


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_reads_its_lists(tmp_path, folders):
    split = msmt17.read(msmt(tmp_path, *folders))
    assert split.train_folder == folders[0]
    assert [(s.pid, s.camid, s.role) for s in split.train] == [
        (0, 0, "identity"),
        (0, 14, "identity"),
        (1, 1, "identity"),
    ], "train and val lists together; pid 0 is a person"
    assert len(split.query) == len(split.gallery) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000/0000_009_01_0303morning_0015_0.jpg 0\n", "are not there"),
        ("../../etc/passwd 0\n", "are not there"),
        ("0000/0000_001_15_0303morning_0015_0.jpg 0\n", "listed twice"),
        ("0000/0000_001_15_0303morning_0015_0.jpg\n", "line 2"),
    ],
)
def test_msmt17_lists_that_lie(tmp_path, line, message):
    root = msmt(tmp_path)
    with open(root / "list_val.txt", "a") as file:
        file.write(line)
    if message == "line 2":
        (root / "list_val.txt").write_text("0001/0001_000_02_0303noon_0015_0.jpg 1\n" + line)
    with pytest.raises(DataError, match=message):
        msmt17.read(root)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ((), "there is nothing in it"),
        (MARKET[3:], "holds no image"),  # an empty training set: Thumbs.db alone is none
        (("photos/a.jpg",), "expected bounding_box_train, query, bounding_box_test"),
        ((*MARKET, "gallery/0001/0001_c1s1_000001_00.jpg", "train/0002/0002_c1s1_000451_03.jpg"), "both as released"),
        ((*MARKET, "query/0001_c1s1_001052_00.webp"), "neither JPEG nor PNG"),
        ((*PREPARED[1:],), "no folder 'train'"),
        ((*PREPARED, "train/0002/more/0002_c1s1_000001_00.jpg"), "holds folders itself"),
        ((*PREPARED, "train/0003/.hidden.jpg"), "1 identity folders .* hold no image: 'train/0003'"),
    ],
)
def test_wrong_folders_are_explained(tmp_path, paths, message):
    with pytest.raises(DataError, match=message):
        market1501.read(fill(tmp_path, *paths))


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        market1501.read(tmp_path / "nowhere")


@pytest.mark.parametrize("dataset", READERS)
def test_every_reader_says_what_it_is(dataset):
    module = importlib.import_module(f"reid_core.data.{dataset}")
    assert "Reference:" in module.__doc__ and "Statistics" in module.__doc__
    example = re.search(r"as in (\S+\.(?:jpg|png))", module.PATTERN)
    assert example is not None
    module.parse(example[1])
    assert module.LAYOUT.dataset == dataset == resolve_name(module.LAYOUT.title)


def test_omniglot_counts(tmp_path):
    data = Path(os.environ.get("REID_CORE_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    archive = data / "omniglot-reid.zip"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there; set REID_CORE_TEST_DATA")
    with zipfile.ZipFile(archive) as packed:  # names only: nothing is unpacked
        for name in packed.namelist():
            if not name.endswith("/"):
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).touch()
    split = market1501.read(tmp_path / "Omniglot-ReID")
    assert (len(split.train), len(split.query), len(split.gallery)) == (1720, 276, 784)
    assert Counter(s.role for s in split.gallery) == {"identity": 644, "distractor": 80, "junk": 60}
    assert len({s.pid for s in split.train}) == 86
    assert {s.camid for s in split.gallery} == set(range(6))

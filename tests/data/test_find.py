"""Which folder and which reader are meant by what was typed."""

import pytest
from released_layouts import MARKET, PREPARED, fill

from reid_core.data._find import find_root, resolve_name
from reid_core.errors import DataError, UsageError


@pytest.mark.parametrize(
    "name", ["market", "market1501", "Market-1501", "Market-1501-v15.09.15", "pytorch", "MARKET_1501"]
)
def test_data_dir_may_be_the_folder_or_hold_it(tmp_path, name):
    root = fill(tmp_path / name, *MARKET)
    for dataset in ("market", "Market-1501"):
        assert find_root(root, dataset) == root
        assert find_root(tmp_path, dataset) == root
    nested = fill(tmp_path / "unpacked" / name / "Market-1501", *MARKET)
    assert find_root(tmp_path / "unpacked", "market") == nested


def test_data_dir_prefers_the_reference_name_and_asks_otherwise(tmp_path):
    fill(tmp_path / "Market-1501-v15.09.15", *MARKET)
    fill(tmp_path / "pytorch", *PREPARED)
    with pytest.raises(UsageError, match="several folders"):
        find_root(tmp_path, "market1501")
    fill(tmp_path / "market", *PREPARED)
    assert find_root(tmp_path, "market1501") == tmp_path / "market"


def test_data_dir_without_the_data_set_says_what_is_there(tmp_path):
    fill(tmp_path / "photos", *MARKET)
    with pytest.raises(DataError) as caught:
        find_root(tmp_path, "market1501")
    text = str(caught.value)
    assert "Market-1501-v15.09.15" in text and "bounding_box_train" in text and "'photos' in it would fit" in text
    with pytest.raises(DataError, match="not a folder"):
        find_root(tmp_path / "nowhere", "market1501")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("market", "market1501"),
        ("Market-1501", "market1501"),
        ("MARKET_1501", "market1501"),
        ("duke", "dukemtmc_reid"),
        ("DukeMTMC-reID", "dukemtmc_reid"),
        ("dukemtmcreid", "dukemtmc_reid"),
        ("CUHK-03", "cuhk03"),
        ("MSMT17", "msmt17"),
        ("my_own.reader", "my_own.reader"),
    ],
)
def test_names_are_resolved(text, expected):
    assert resolve_name(text) == expected


def test_unknown_names_offer_the_closest():
    with pytest.raises(UsageError) as caught:
        resolve_name("markt1501")
    assert "'market1501'" in str(caught.value) and "msmt17" in str(caught.value)

"""RankResult from a distance matrix: protocols, counts, warnings, and errors with their exit codes."""

import json
import logging

import numpy as np
import pytest

from reid_core.errors import DataError, NumericalError, UsageError
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.rank import rank_metrics

#            junk  same view  match  distractor  other
G_PIDS = [-1, 7, 7, 0, 8]
G_CAMIDS = [3, 2, 1, 2, 2]
DISTMAT = np.array([[0.0, 0.1, 0.5, 0.4, 0.3], [0.9, 0.8, 0.7, 0.6, 0.5]])
TABLE = (DISTMAT, [7, 9], G_PIDS, [2, 0], G_CAMIDS)


def test_market_by_hand():
    result = rank_metrics(*TABLE, max_rank=6)
    assert result.cmc.tolist() == [0, 0, 1, 1, 1, 1]  # the match stands behind the other and the distractor
    assert result.mAP == pytest.approx(1 / 3)
    assert result.mAP_trapezoid == pytest.approx(1 / 6)
    assert result.mINP == pytest.approx(1 / 3)
    assert (result.num_queries, result.num_valid_queries, result.num_junk, result.num_dropped) == (2, 1, 1, 1)
    assert result.first_hit.tolist() == [2, -1]
    assert np.isnan(result.ap[1])
    assert result.protocol == "market1501"
    assert not result.ap.flags.writeable and not result.cmc.flags.writeable
    assert (result.rank(1), result.rank(3), result.rank(50)) == (0.0, 1.0, 1.0)
    assert json.loads(json.dumps(result.to_json()))["rank5"] == 1.0


def test_any_camera_keeps_the_same_view():
    result = rank_metrics(*TABLE, protocol="any-camera")
    assert (result.num_dropped, result.cmc[0]) == (0, 1.0)
    assert result.mAP == pytest.approx((1 + 2 / 4) / 2)


def test_cuhk03_samples_the_cmc_and_ranks_ap_in_full():
    rng = np.random.default_rng(0)
    g_pids = np.repeat(np.arange(30), 5)
    table = (rng.random((30, 150)), np.arange(30), g_pids, [0] * 30, [1] * 150)
    market, cuhk03 = rank_metrics(*table), rank_metrics(*table, protocol="cuhk03", seed=3, repeats=20)
    assert cuhk03.mAP == market.mAP
    assert cuhk03.rank(1) == pytest.approx(1 / 30, abs=0.04)
    assert cuhk03.cmc[29] == 1.0
    assert cuhk03.notes["seed"] == 3 and cuhk03.notes["repeats"] == 20
    assert rank_metrics(*table, protocol="cuhk03", seed=3, repeats=20).cmc.tolist() == cuhk03.cmc.tolist()


def test_ties_are_said(caplog):
    with caplog.at_level(logging.WARNING):
        rank_metrics(np.round(np.linspace(0, 1, 10), 3)[None], [1], np.arange(10), [0], [1] * 10)
        assert not caplog.records
        result = rank_metrics(np.zeros((1, 10)), [1], np.arange(10), [0], [1] * 10)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "100.0 % of the matches" in caplog.text
    assert result.tie_share == 1.0 and result.rank(1) == 0.0


def test_constant_features_score_nothing_in_any_order():
    rng = np.random.default_rng(4)
    query, gallery = np.full((10, 16), 0.3), np.full((50, 16), 0.3)
    g_pids = np.repeat(np.arange(10), 5)
    results = []
    for _ in range(3):
        order = rng.permutation(50)
        distmat = distance_matrix(query, gallery[order])
        results.append(rank_metrics(distmat, np.arange(10), g_pids[order], [0] * 10, [1] * 50))
    assert [r.rank(1) for r in results] == [0.0] * 3
    assert len({r.mAP for r in results}) == 1


@pytest.mark.parametrize("protocol", ["market1501", "cuhk03", "any-camera"])
def test_gallery_order_changes_no_figure(protocol):
    rng = np.random.default_rng(5)
    for _ in range(20):
        distmat = rng.integers(0, 30, (8, 60)) / 10
        ids = rng.integers(0, 9, 8), rng.integers(-1, 9, 60), rng.integers(0, 3, 8), rng.integers(0, 3, 60)
        order = rng.permutation(60)
        one = rank_metrics(distmat, *ids, protocol=protocol, repeats=4)
        two = rank_metrics(
            distmat[:, order], ids[0], ids[1][order], ids[2], ids[3][order], protocol=protocol, repeats=4
        )
        assert one.to_json() == two.to_json()


def test_errors_carry_their_exit_codes():
    broken = DISTMAT.copy()
    for value, words in ((np.nan, "NaN"), (np.inf, "infinite")):
        broken[1, 3] = value
        for protocol in ("market1501", "cuhk03"):
            with pytest.raises(NumericalError, match=rf"distmat\[1, 3\] is {words}"):
                rank_metrics(broken, *TABLE[1:], protocol=protocol)
    with pytest.raises(DataError, match="none of the 2 queries has a match"):
        rank_metrics(DISTMAT, [70, 90], *TABLE[2:])
    with pytest.raises(UsageError, match="g_pids must have one entry for each of the 5 columns"):
        rank_metrics(DISTMAT, [7, 9], [1], *TABLE[3:])
    with pytest.raises(UsageError, match="Did you mean 'market1501'"):
        rank_metrics(*TABLE, protocol="market")
    with pytest.raises(UsageError, match="backend must be"):
        rank_metrics(*TABLE, backend="gpu")


def test_numbers_are_looked_at_before_the_distances():
    table = (np.full((1, 2), np.nan), [1], [1, 2], [0], [1, 1])
    for more, words in (
        ({"max_rank": 0}, "max_rank must be at least 1"),
        ({"protocol": "cuhk03", "repeats": 0}, "repeats must be at least 1"),
    ):
        with pytest.raises(UsageError, match=words):
            rank_metrics(*table, **more)

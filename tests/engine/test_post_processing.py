"""What is done before ranking: in which order, network by network, refused before any image is seen."""

import numpy as np
import pytest
import torch
from conftest import write_tiny_market

from reid_core.data import market1501
from reid_core.engine.evaluate import EvaluationOptions, evaluate
from reid_core.engine.post_processing import PostProcessing
from reid_core.errors import UsageError
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.expansion import average_query_expansion, database_augmentation
from reid_core.metrics.rank import rank_metrics
from reid_core.metrics.rerank import k_reciprocal_rerank
from reid_core.metrics.roc import pair_roc, pair_roc_from_embeddings
from reid_core.types import NetOutput

SIZE = (8, 4)
CPU = torch.device("cpu")


class Linear(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        self.weight = torch.randn(3 * 8 * 4, 5, generator=torch.Generator().manual_seed(seed))

    def forward(self, images):
        found = images.flatten(1) @ self.weight
        return NetOutput(found, found)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return market1501.read(write_tiny_market(tmp_path_factory.mktemp("post") / "market", test_ids=9))


def embeddings():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(rows, 4)).astype(np.float32) for rows in (6, 30)]


def test_nothing_asked_for_is_the_cosine():
    query, gallery = embeddings()
    post = PostProcessing()
    expected = distance_matrix(query, gallery)
    names = ["q"] * 6 + ["g"] * 30
    assert all(a is b for a, b in zip(post.embeddings(query, gallery, names), (query, gallery)))
    np.testing.assert_array_equal(post.distances(query, gallery, names), expected)
    assert post.to_json() is None and str(post) == ""


def test_augmented_then_expanded_then_re_ranked():
    query, gallery = embeddings()
    post = PostProcessing(2, 3, 1.0, True, 5, 2, 0.4)
    calls = []
    names = ["q"] * 6 + ["g"] * 30

    def note(*call):
        calls.append(call)

    found = post.distances(*post.embeddings(query, gallery, names, note), names, note)
    augmented = database_augmentation(gallery, 2, 1.0)
    expected = k_reciprocal_rerank(average_query_expansion(query, augmented, 3, 1.0), augmented, 5, 2, 0.4)
    np.testing.assert_array_equal(found, expected)
    assert calls == sorted(calls) and calls[-1] == (3000, 3000)
    assert post.to_json() == {
        "database_augmentation": {"k": 2, "alpha": 1.0},
        "query_expansion": {"k": 3, "alpha": 1.0},
        "rerank": {"k1": 5, "k2": 2, "lambda_value": 0.4},
    }
    assert str(post) == (
        "after database augmentation (k 2, alpha 1), query expansion (k 3, alpha 1), "
        "k-reciprocal re-ranking (k1 5, k2 2, lambda_value 0.4)"
    )


def test_each_network_is_re_ranked_before_the_mean(split, monkeypatch):
    seen = []

    def remember(query, gallery, *rest, **names):
        seen.append(k_reciprocal_rerank(query, gallery, *rest, **names))
        return seen[-1]

    monkeypatch.setattr("reid_core.engine.post_processing.k_reciprocal_rerank", remember)
    options = EvaluationOptions(SIZE, flip=False, post=PostProcessing(rerank=True, k1=4, k2=2), roc=True)
    calls = []
    found = evaluate([Linear(1), Linear(2)], split, options, CPU, None, lambda *call: calls.append(call))
    pids = [[s.pid if s.role == "identity" else -1 for s in part] for part in (split.query, split.gallery)]
    pids[1] = [-2 if s.role == "distractor" else pid for s, pid in zip(split.gallery, pids[1])]
    camids = [[s.camid for s in part] for part in (split.query, split.gallery)]
    mean = (seen[0] + seen[1]) / 2
    for result, roc, distances in [
        (found.networks[0], found.rocs[0], seen[0]),
        (found.networks[1], found.rocs[1], seen[1]),
        (found.ensemble, found.ensemble_roc, mean),
    ]:
        assert result.mAP == rank_metrics(distances, *pids, *camids).mAP
        np.testing.assert_array_equal(roc.fpr, pair_roc(distances, *pids, *camids).fpr)
    assert calls == sorted(calls) and calls[-1] == (2000, 2000)
    body = found.to_json()
    assert body["roc"] == body["networks"][0]["roc"] == found.rocs[0].to_json()
    assert body["ensemble"]["roc"] == found.ensemble_roc.to_json()


def test_a_roc_without_re_ranking_makes_no_matrix(split, monkeypatch):
    sides = []

    def remember(query, gallery, *rest, **more):
        sides.append((query, gallery, rest))
        return pair_roc_from_embeddings(query, gallery, *rest, **more)

    monkeypatch.setattr("reid_core.engine.evaluate.pair_roc_from_embeddings", remember)
    monkeypatch.setattr(PostProcessing, "distances", None)
    found = evaluate([Linear(1), Linear(2)], split, EvaluationOptions(SIZE, flip=False, roc=True), CPU)
    assert [query.shape[1] for query, *_ in sides] == [5, 5, 10]
    for roc, (query, gallery, ids) in zip((*found.rocs, found.ensemble_roc), sides):
        np.testing.assert_array_equal(roc.fpr, pair_roc(distance_matrix(query, gallery), *ids).fpr)
    mean = (distance_matrix(*sides[0][:2]) + distance_matrix(*sides[1][:2])) / 2
    assert found.ensemble_roc.thresholds == pytest.approx(pair_roc(mean, *sides[0][2]).thresholds, abs=1e-6)


def test_without_a_roc_there_is_none(split):
    found = evaluate([Linear(1)], split, EvaluationOptions(SIZE, flip=False), CPU)
    assert found.rocs == () and "roc" not in found.to_json()


@pytest.mark.parametrize(
    ("post", "message"),
    [
        (PostProcessing(query_expansion=30), r"query_expansion must lie in \[0, 29\] with 29 gallery images, got 30"),
        (PostProcessing(database_augmentation=29), r"database_augmentation must lie in \[0, 28\]"),
        (PostProcessing(query_expansion=-1), "query_expansion must lie in"),
        (PostProcessing(alpha=float("nan")), "expansion_alpha must be"),
        (PostProcessing(rerank=True, k1=38), r"k1 must lie in \[1, 37\] with 38 images to rank, got 38"),
        (PostProcessing(rerank=True, k2=0), "k2 must lie in"),
        (PostProcessing(rerank=True, lambda_value=2), r"lambda_value must lie in \[0, 1\], got 2"),
    ],
)
def test_the_impossible_is_refused_before_any_image_is_seen(post, message, split):
    assert (len(split.query), len(split.gallery)) == (9, 29)
    with pytest.raises(UsageError, match=message):
        evaluate([None], split, EvaluationOptions(SIZE, flip=False, post=post), CPU)

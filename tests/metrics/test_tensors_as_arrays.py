"""CPU tensors where arrays are expected: in every function that measures, whatever their type, or named."""

import numpy as np
import pytest

import eval_lib
from reid_core.errors import UsageError
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.expansion import average_query_expansion, database_augmentation
from reid_core.metrics.rerank import k_reciprocal_rerank
from reid_core.metrics.roc import pair_roc, pair_roc_from_embeddings

torch = pytest.importorskip("torch")


def problem():
    """Embeddings of small whole numbers, which every type holds; pids; cameras."""
    rng = np.random.default_rng(2)
    q, g = (rng.integers(-8, 9, (rows, 12)).astype(np.float32) for rows in (20, 30))
    q[:, 0] = g[:, 0] = 3
    return q, g, *(rng.integers(0, 4, rows) for rows in (20, 30, 20, 30))


def tensors(*values):
    return [torch.from_numpy(value) for value in values]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_every_function_takes_tensors(kind):
    """With gradients, and of types that NumPy lacks."""
    q, g, *ids = problem()
    given = [side.to(kind).requires_grad_(kind != torch.float8_e4m3fn) for side in tensors(q, g)]
    arrays = [side.detach().float().numpy() for side in given]
    for call in (
        distance_matrix,
        lambda a, b: k_reciprocal_rerank(a, b, 5, 2),
        lambda a, b: average_query_expansion(a, b, 2),
        lambda a, b: database_augmentation(b, 2),
        lambda a, b: pair_roc_from_embeddings(a, b, *(tensors(*ids) if a is given[0] else ids)).fpr,
    ):
        np.testing.assert_array_equal(call(*given), call(*arrays))
    distances = torch.from_numpy(distance_matrix(*arrays)).requires_grad_()
    expected = pair_roc(distances.detach().numpy(), *ids).tpr
    np.testing.assert_array_equal(pair_roc(distances, *ids).tpr, expected)
    np.testing.assert_array_equal(pair_roc(lambda: distances.split(7), *ids).tpr, expected)


def test_a_tensor_that_is_a_negative_view_is_the_numbers_it_shows():
    q, g, *_ = problem()
    turned = torch.complex(torch.from_numpy(q), torch.from_numpy(-q)).conj().imag
    assert turned.is_neg()
    np.testing.assert_array_equal(distance_matrix(turned, g), distance_matrix(q, g))


def test_tensors_that_are_no_arrays_are_named():
    q, g, *ids = problem()
    sparse = torch.from_numpy(q).to_sparse()
    for call in (
        lambda: k_reciprocal_rerank(sparse, g),
        lambda: distance_matrix(sparse, g),
        lambda: pair_roc(sparse, *ids),
    ):
        with pytest.raises(UsageError, match="a tensor of torch.float32 torch.sparse_coo cannot be read as an array"):
            call()
    turned = torch.from_numpy(q).to(torch.complex64).conj()
    with pytest.raises(UsageError, match="complex64"):
        distance_matrix(turned, g)
    # eval_lib knows arrays alone, but says which argument is not one.
    with pytest.raises(TypeError, match="distmat cannot be read as an array: .*requires grad"):
        eval_lib.rank_queries(torch.zeros(2, 3, requires_grad=True), [1, 2], [1, 2, 3], [0, 0], [1, 1, 1])

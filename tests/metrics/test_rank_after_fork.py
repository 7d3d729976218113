"""Evaluation with threads, then a DataLoader whose forked workers evaluate too: nothing hangs."""

import sys

import numpy as np
import pytest

import eval_lib

torch = pytest.importorskip("torch")


class Evaluations(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return evaluate(threads=1 + index % 2)


def evaluate(threads):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, 20), rng.integers(0, 9, 300), [0] * 20, [1] * 300
    return eval_lib.rank_queries(rng.random((20, 300)), *ids, threads=threads).mAP


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_workers_evaluate_after_the_parent_did(times):
    expected = evaluate(threads=2)
    for _ in range(times):
        assert evaluate(threads=2) == expected
        loader = torch.utils.data.DataLoader(
            Evaluations(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
        )
        assert [float(v) for v in loader] == [expected] * 4

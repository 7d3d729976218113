"""Counting a tile of distances: the compiled op and plain PyTorch, on the CPU and on a GPU if any, against NumPy."""

import logging

import numpy as np
import pytest

from reid_core.metrics._counting import Counts

torch = pytest.importorskip("torch")
from reid_core import ops  # noqa: E402
from reid_core.ops import _library  # noqa: E402

built = pytest.mark.skipif(bool(ops.why_missing()), reason=f"no ops: {ops.why_missing()}")
on_gpu = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
WAYS = [
    pytest.param("cpu", "torch", id="torch"),
    pytest.param("cpu", "native", id="native", marks=built),
    pytest.param("cuda", "torch", id="cuda-torch", marks=on_gpu),
    pytest.param("cuda", "native", id="cuda-native", marks=on_gpu),
]


def random_problem(rng, rows, columns, lengths, kind=np.float32):
    """A tile with many equal distances, NaN and infinite ones, somewhere in a gallery."""
    levels = int(rng.choice([2, 30, 100_000]))
    whole = (rng.integers(-levels, levels, (rows, columns + 5)) / 64).astype(kind)
    whole[rng.random(whole.shape) < 0.01] = rng.choice([np.inf, -np.inf, np.nan, -0.0])
    sizes = rng.choice(lengths, rows)
    starts = 3 + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    thresholds = np.full(starts[-1] + 2, 9, kind)
    for a, b in zip(starts[:-1], starts[1:]):
        thresholds[a:b] = np.sort((rng.integers(-levels, levels + 1, b - a) / 64).astype(kind))
    column = int(rng.integers(0, 1000))
    low = rng.integers(column - 50, column + columns + 50, rows)
    high = low + rng.integers(0, max(columns, 2), rows) // rng.integers(1, 4)
    return whole[:, :columns], column, thresholds, starts, low, high


def expected(problem):
    tile, column, thresholds, starts, low, high = problem
    counts = Counts(thresholds, starts)
    # The definition refuses what is not finite; here NaN and infinity are behind every match, and the other in front.
    far = np.nan_to_num(tile, nan=1e30, posinf=1e30, neginf=-1e30)
    assert counts.add_tile(far, tile.shape[1], 0, *(np.clip(edge - column, 0, tile.shape[1]) for edge in (low, high)))
    return counts.between, counts.tied


def arguments(problem, device="cpu"):
    """As the op takes them; rows of the tile stay apart."""
    tile, column, *rest = problem
    whole = torch.from_numpy(np.ascontiguousarray(tile.base)).to(device)
    rest = [torch.from_numpy(values).to(device) for values in rest]
    zeros = [torch.zeros(len(rest[0]), dtype=torch.int64, device=device) for _ in range(2)]
    return [whole[:, : tile.shape[1]], column, *rest, *zeros]


@pytest.mark.parametrize(("device", "backend"), WAYS)
def test_the_counts_of_the_definition(device, backend):
    rng = np.random.default_rng(0)
    for case in range(60):
        rows, columns = int(rng.choice([0, 1, 3, 40])), int(rng.choice([0, 1, 31, 33, 512, 4099]))
        kind = (np.float32, np.float64)[case % 2]
        problem = random_problem(rng, rows, columns, (0, 1, 2, 7, 33, 1024, 1025, 5000), kind)
        call = arguments(problem, device)
        ops.count_tile(*call, backend=backend)
        for found, wanted in zip(call[-2:], expected(problem)):
            np.testing.assert_array_equal(found.cpu(), wanted, err_msg=str(case))


@pytest.mark.parametrize(("device", "backend"), WAYS)
def test_many_rows_and_threads(device, backend):
    """Enough for several threads, or for a GPU's every processor; counted twice on top of each other."""
    problem = random_problem(np.random.default_rng(1), 300, 1000, (0, 5, 40))
    call = arguments(problem, device)
    for _ in range(2):
        ops.count_tile(*call, backend=backend)
    for found, wanted in zip(call[-2:], expected(problem)):
        np.testing.assert_array_equal(found.cpu(), 2 * wanted)


@built
def test_registration():
    call = arguments(random_problem(np.random.default_rng(2), 3, 33, (2, 7)))
    torch.library.opcheck(torch.ops.reid_core.count_tile.default, call)


REFUSED = {
    "tile": (
        (torch.zeros(2, 3, 1), "the tile must be"),
        (torch.zeros(2, 3, dtype=torch.float16), "the tile must be float32 or float64, got Half"),
        (torch.zeros(3, 2).T, "columns of the tile must be neighbours, their stride is 2"),
        (torch.zeros(5, 3), "starts must have 6 entries, got 3"),
    ),
    "thresholds": (
        (torch.zeros(4, 1), "thresholds must be"),
        (torch.zeros(4, dtype=torch.float64), "thresholds must be Float, got Double"),
        (torch.zeros(8)[::2], "thresholds must be one contiguous dimension"),
        (torch.zeros(5), "between must have 5 entries, got 4"),
    ),
    "starts": (
        (torch.tensor([0, 2, 5]), r"starts\[2\] is 5, it must lie between 2 and 4"),
        (torch.tensor([0, 3, 2]), r"starts\[2\] is 2, it must lie between 3 and 4"),
        (torch.tensor([-1, 2, 4]), r"starts\[0\] is -1, it must lie between 0 and 4"),
    ),
    "low": ((torch.zeros(3, dtype=torch.int64), "low must have 2 entries, got 3"),),
    "high": ((torch.zeros(2, dtype=torch.int32), "high must be Long, got Int"),),
    "tied": ((torch.zeros(4), "tied must be Long, got Float"),),
}


@built
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_named(name):
    good = {
        "tile": torch.zeros(2, 3),
        "column": 0,
        "thresholds": torch.zeros(4),
        "starts": torch.tensor([0, 2, 4]),
        "low": torch.zeros(2, dtype=torch.int64),
        "high": torch.zeros(2, dtype=torch.int64),
        "between": torch.zeros(4, dtype=torch.int64),
        "tied": torch.zeros(4, dtype=torch.int64),
    }
    ops.count_tile(**good, backend="native")
    for value, words in REFUSED[name]:
        with pytest.raises(RuntimeError, match=words):
            ops.count_tile(**{**good, name: value}, backend="native")


def test_a_missing_library_is_one_warning_and_an_error_where_asked_for(monkeypatch, caplog):
    monkeypatch.setattr(_library, "_load", lambda: "it was never built here")
    _library._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert [ops.use_native("cpu") for _ in range(3)] == [False] * 3
        assert ops.use_native("cpu", "torch") is False
    assert len(caplog.records) == 1 and "never built" in caplog.text
    with pytest.raises(
        RuntimeError, match="native was asked for, but reid_core.ops._torch_ops is missing: it was never"
    ):
        ops.use_native("cuda", "native")
    with pytest.raises(ValueError, match="backend must be auto, native or torch"):
        ops.use_native("cpu", "gpu")
    _library._warn_once.cache_clear()


def test_a_library_without_its_cuda_part_says_why(monkeypatch):
    monkeypatch.setattr(_library, "_load", lambda: "")
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: False)
    skipped = {"reid_core.ops._torch_ops (CUDA)": "nvcc was not found"}
    monkeypatch.setattr("eval_lib.build_record", lambda: {"skipped": skipped})
    assert ops.why_missing("cuda") == "nvcc was not found"
    monkeypatch.setattr("eval_lib.build_record", dict)
    assert "without its part for cuda" in ops.why_missing("cuda")
    assert ops.why_missing("cpu") == ""

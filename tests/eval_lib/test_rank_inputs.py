"""What may be passed in, and what is refused with which words."""

import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest

import eval_lib

BACKENDS = ["python"] + ([] if eval_lib.why_missing() else ["native"])
IDS = ([1, 2], [1, 2, 3], [0, 0], [1, 1, 1])
DISTMAT = np.array([[0.1, 0.5, 0.2], [0.4, 0.3, 0.2]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "is NaN"), (np.inf, "is infinite"), (-np.inf, "is minus infinity")]
)
def test_what_is_not_finite_names_row_and_column(backend, dtype, value, words):
    rng = np.random.default_rng(5)
    g_pids = rng.integers(-1, 9, 40)  # junk columns too: NaN comes from a broken embedding wherever it stands
    corners = [(0, 0), (0, 39), (29, 0), (29, 39)]
    for row, column in corners + [(int(rng.integers(30)), int(rng.integers(40))) for _ in range(96)]:
        distmat = rng.random((30, 40)).astype(dtype)
        distmat[row, column] = value
        with pytest.raises(eval_lib.NotFiniteError, match=rf"distmat\[{row}, {column}\] {words}") as caught:
            eval_lib.rank_queries(
                distmat, rng.integers(0, 9, 30), g_pids, [0] * 30, [1] * 40, backend=backend, threads=3
            )
        assert (caught.value.row, caught.value.column) == (row, column)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_first_of_several_nans_is_named(threads):
    distmat = np.zeros((20, 5))
    distmat[13, 2] = distmat[13, 4] = distmat[19, 0] = np.nan
    with pytest.raises(eval_lib.NotFiniteError, match=r"\[13, 2\]"):
        eval_lib.rank_queries(distmat, [1] * 20, [1] * 5, [0] * 20, [1] * 5, threads=threads)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_single_shot(value):
    with pytest.raises(eval_lib.NotFiniteError, match=r"\[1, 2\]"):
        eval_lib.single_shot_cmc([[0, 0, 0], [0, 0, value]], *IDS, 3)


def test_the_error_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(eval_lib.NotFiniteError(3, 4, np.inf)))  # noqa: S301 our own bytes
    assert (error.row, error.column, error.value) == (3, 4, np.inf)
    assert eval_lib.NotANumberError is eval_lib.NotFiniteError  # its old name


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_strides_byte_orders_and_read_only_arrays(backend, tmp_path):
    rng = np.random.default_rng(2)
    base = rng.random((9, 17))
    ids = [rng.integers(0, 4, 9), rng.integers(-1, 4, 17), rng.integers(0, 2, 9), rng.integers(0, 2, 17)]
    expected = eval_lib.rank_queries(base, *ids, backend=backend)

    wide = rng.random((18, 51))
    wide[::2, ::3] = base
    unaligned = np.frombuffer(b"x" + base.tobytes(), dtype=np.uint8)[1:].view(np.float64).reshape(9, 17)
    frozen = base.copy()
    frozen.setflags(write=False)
    frozen_ids = []
    for values in ids:
        spread = np.repeat(values.astype(">i4"), 2)[::2]
        spread.setflags(write=False)
        frozen_ids.append(spread)
    variants = {
        "strided": wide[::2, ::3],
        "fortran": np.asfortranarray(base),
        "backwards": base[::-1, ::-1].copy()[::-1, ::-1],
        "unaligned": unaligned,
        "big endian": base.astype(">f8"),
        "read-only": frozen,
        "list": base.tolist(),
    }
    for name, distmat in variants.items():
        ranks = eval_lib.rank_queries(distmat, *frozen_ids, backend=backend, threads=2)
        np.testing.assert_array_equal(ranks.ap, expected.ap, err_msg=name)
    on_disk = np.memmap(tmp_path / "distmat", dtype=np.float64, mode="w+", shape=base.shape)
    on_disk[:] = base
    on_disk.flush()
    mapped = np.memmap(tmp_path / "distmat", dtype=np.float64, mode="r", shape=base.shape)
    ranks = eval_lib.rank_queries(mapped, *ids, backend=backend)
    np.testing.assert_array_equal(ranks.ap, expected.ap)
    zeros = eval_lib.rank_queries(np.broadcast_to(np.float32(0), (9, 17)), *ids, backend=backend)
    assert zeros.tie_share == 1.0


def test_results_are_read_only():
    ranks = eval_lib.rank_queries(DISTMAT, *IDS)
    with pytest.raises(ValueError, match="read-only"):
        ranks.ap[0] = 1


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"distmat": np.zeros(3)}, ValueError, r"\(num_query, num_gallery\), got shape \(3,\)"),
        ({"distmat": np.zeros((0, 3)), "q_pids": [], "q_camids": []}, ValueError, "has no query"),
        ({"distmat": DISTMAT.astype(complex)}, TypeError, "complex128"),
        ({"distmat": DISTMAT.astype(object)}, TypeError, "object"),
        ({"distmat": np.full((2, 3), 2**60)}, ValueError, "beyond 2"),
        ({"distmat": np.full((2, 3), -(2**60))}, ValueError, "beyond 2"),
        ({"distmat": DISTMAT.astype(np.longdouble)}, TypeError, "float128|longdouble"),
        ({"q_pids": [1]}, ValueError, r"q_pids must have one entry for each of the 2 rows .* got shape \(1,\)"),
        ({"g_pids": [1, 2]}, ValueError, r"g_pids must have one entry for each of the 3 columns .* got shape \(2,\)"),
        ({"q_camids": [[0, 0]]}, ValueError, r"q_camids .* got shape \(1, 2\)"),
        ({"g_camids": [1] * 4}, ValueError, r"g_camids .* 3 columns .* got shape \(4,\)"),
        ({"q_pids": [1.0, 2.0]}, TypeError, "q_pids must be integers, got float64"),
        ({"q_pids": [True, False]}, TypeError, "q_pids must be integers, got bool"),
        ({"g_pids": ["a", "b", "c"]}, TypeError, "g_pids must be integers"),
        ({"g_pids": np.array([2**63, 1, 2], dtype=np.uint64)}, ValueError, "beyond 64-bit"),
        ({"backend": "gpu"}, ValueError, "auto, native or python, got 'gpu'"),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
    ],
)
def test_refused(change, kind, words):
    names = ("distmat", "q_pids", "g_pids", "q_camids", "g_camids")
    arguments = dict(zip(names, (DISTMAT, *IDS), strict=True)) | change
    with pytest.raises(kind, match=words):
        eval_lib.rank_queries(**arguments)


@pytest.mark.parametrize(("top", "kind"), [(2**53, np.int64), (2**53, np.float64), (2**24 + 1, np.int32)])
def test_large_whole_numbers_are_told_apart(top, kind):
    distmat = np.array([[top, top - 1], [-top, 1 - top]], kind)
    ranks = eval_lib.rank_queries(distmat, [1, 1], [1, 2], [0, 0], [1, 1])
    assert ranks.first_hit.tolist() == [1, 0] and ranks.tie_share == 0


def test_a_mean_is_rounded_once():
    """Of 1 and four times 2**-54, which vanishes beside 1 where it is added alone, and 1 + 2**-52 where the four are summed."""
    ranks = eval_lib.rank_queries(np.zeros((5, 2)), [1] * 5, [1, 2], [0] * 5, [1, 1])
    values = np.array([1.0, *[2.0**-54] * 4])
    assert ranks.mean(values) == ranks.mean(values[::-1]) == (1 + 2.0**-52) / 5


@pytest.mark.parametrize("max_rank", [0, -1])
def test_max_rank_is_at_least_one(max_rank):
    with pytest.raises(ValueError, match="max_rank must be at least 1"):
        eval_lib.eval_market1501_wrap(DISTMAT, *IDS, max_rank)
    with pytest.raises(ValueError, match="max_rank must be at most 16777216, got 10000000000000"):
        eval_lib.eval_market1501_wrap(DISTMAT, *IDS, 10**13)
    for wrong in (2.5, True):
        with pytest.raises(TypeError, match="whole number"):
            eval_lib.eval_market1501_wrap(DISTMAT, *IDS, wrong)
    for rule in (eval_lib.eval_market1501_wrap, eval_lib.eval_cuhk03_wrap):  # said before anything is looked at
        with pytest.raises(ValueError, match="max_rank"):
            rule(np.full((2, 3), np.nan), *IDS, max_rank)


@pytest.mark.parametrize("options", [{"repeats": 0}, {"seed": -1}, {"seed": 1.5}, {"seed": True}])
def test_single_shot_options(options):
    with pytest.raises(ValueError, match="must be"):
        eval_lib.eval_cuhk03_wrap(DISTMAT, *IDS, 5, **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_valid_query_is_an_error_that_says_why(backend):
    with pytest.raises(eval_lib.NoMatchError, match="none of the 2 queries .* 0 identities are in both"):
        eval_lib.rank_queries(DISTMAT, [8, 9], [1, 2, 3], [0, 0], [1, 1, 1], backend=backend)
    with pytest.raises(eval_lib.NoMatchError, match=r"2 identities are in both.* 2 pairs were left out .*any-camera"):
        eval_lib.rank_queries(DISTMAT, [1, 2], [1, 2, 3], [0, 0], [0, 0, 0], backend=backend)
    with pytest.raises(eval_lib.NoMatchError, match="among the 0 gallery images"):
        eval_lib.rank_queries(np.zeros((2, 0)), [1, 2], [], [0, 0], [], backend=backend)
    with pytest.raises(eval_lib.NoMatchError):
        eval_lib.single_shot_cmc(DISTMAT, [8, 9], [1, 2, 3], [0, 0], [1, 1, 1], 5)


def test_large_identity_numbers_are_kept_apart():
    """2**32 + 1 and 1 are equal in 32 bits, where C's long has them."""
    ranks = eval_lib.rank_queries([[0.1, 0.2]], [2**32 + 1], [1, 2**32 + 1], [0], [2**32, 2**32])
    assert ranks.first_hit.tolist() == [1]


def test_import_brings_neither_torch_nor_reid_core():
    program = "import sys, eval_lib; print([m for m in ('torch', 'reid_core', 'scipy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.strip() == "[]"


def test_missing_compiled_part_is_one_warning_or_an_error_when_asked_for(monkeypatch, caplog):
    from eval_lib import _native

    monkeypatch.setattr(_native, "_load", lambda: (None, "no compiler was found"))
    _native._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="eval_lib"):
        for _ in range(3):
            assert eval_lib.rank_queries(DISTMAT, *IDS).backend == "python"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no compiler was found" in caplog.text
    with pytest.raises(RuntimeError, match="no compiler was found"):
        eval_lib.rank_queries(DISTMAT, *IDS, backend="native")
    _native._warn_once.cache_clear()

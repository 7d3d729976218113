"""Ranking of tensors: on the CPU as arrays; on a device where they lie, tried here on CPU tensors and on a GPU if any."""

import subprocess
import sys

import numpy as np
import pytest

from reid_core.errors import DataError, NumericalError, UsageError
from reid_core.metrics import _tensors
from reid_core.metrics._tiles import Embeddings
from reid_core.metrics.distance import distance_matrix
from reid_core.metrics.embeddings import rank_metrics_from_embeddings
from reid_core.metrics.rank import rank_metrics

torch = pytest.importorskip("torch")
from reid_core import ops  # noqa: E402
from reid_core.metrics import _device_tiles  # noqa: E402

FIELDS = (
    "cmc mAP mAP_trapezoid mINP ap ap_trapezoid inp first_hit num_queries num_valid_queries num_junk num_dropped "
    "protocol tie_share"
).split()

BACKENDS = [
    "python",
    pytest.param("native", marks=pytest.mark.skipif(bool(ops.why_missing()), reason=f"no ops: {ops.why_missing()}")),
]


def same(one, other):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def problem(seed, queries, gallery, width, identities, ties=False):
    """Random embeddings whose products are exact in float32 whatever their order: small whole numbers over 8 and 16."""
    rng = np.random.default_rng(seed)
    levels = 1 if ties else 100
    q, g = (rng.integers(-levels, levels + 1, (n, width)).astype(np.float32) for n in (queries, gallery))
    q[:, 0] = g[:, 0] = 3
    if ties:
        g[::2] = g[0]
    pids = rng.integers(0, identities, queries), rng.integers(-1, identities, gallery)
    return q, g, *pids, rng.integers(0, 4, queries), rng.integers(0, 4, gallery)


@pytest.fixture
def on_cpu(monkeypatch):
    """CPU tensors go the way of those on a device, in small tiles."""
    monkeypatch.setattr(_tensors, "WORKS_ON", frozenset({"cpu"}))
    monkeypatch.setattr(_device_tiles, "TILE", 64)


def set_backend(monkeypatch, backend):
    from reid_core.metrics import _device, _device_counts

    real = _device_counts.counting_backend
    monkeypatch.setattr(_device, "counting_backend", lambda asked, device: real(backend, device))


def tensors(*values):
    return [torch.from_numpy(np.ascontiguousarray(value)) for value in values]


def test_cpu_tensors_are_the_arrays_they_are(monkeypatch):
    q, g, *ids = problem(0, 50, 300, 12, 20)
    expected = rank_metrics_from_embeddings(q, g, *ids)
    a, b = tensors(q, g)
    seen = []

    def look(kind, values, metric, names=None, real=Embeddings):
        seen.append(values.__array_interface__["data"][0])
        return real(kind, values, metric, names)

    monkeypatch.setattr("reid_core.metrics._host.Embeddings", look)
    same(rank_metrics_from_embeddings(a.requires_grad_(), b, *tensors(*ids)), expected)
    assert seen == [a.data_ptr(), b.data_ptr()]
    half = rank_metrics_from_embeddings(a.detach().bfloat16(), b.bfloat16(), *ids)
    same(half, rank_metrics_from_embeddings(a.detach().bfloat16().float(), b.bfloat16().float(), *ids))
    distances = distance_matrix(q, g)
    same(rank_metrics(torch.from_numpy(distances), *tensors(*ids)), rank_metrics(distances, *ids))


SIZES = [(1, 1, 1, 1), (3, 70, 2, 2), (40, 63, 5, 9), (65, 64, 8, 30), (130, 260, 33, 12), (30, 200, 3, 90)]


def outcome(call, *args, **more):
    try:
        return call(*args, **more)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("protocol", ["market1501", "any-camera"])
@pytest.mark.parametrize("ties", [False, True])
def test_euclidean_gives_the_bits_of_numpy(on_cpu, monkeypatch, backend, protocol, ties):
    """Whole numbers make products that no order of additions rounds: equal bits are owed, over all sizes of memory."""
    set_backend(monkeypatch, backend)
    for seed, size in enumerate(SIZES):
        q, g, *ids = problem(seed, *size, ties=ties)
        expected = outcome(rank_metrics, distance_matrix(q, g, "euclidean"), *ids, protocol=protocol)
        for memory in ("256MB", "40KB", 1):
            found = outcome(
                rank_metrics_from_embeddings, *tensors(q, g), *ids, "euclidean", memory=memory, protocol=protocol
            )
            if isinstance(expected, str):
                assert found == expected
                continue
            same(found, expected)
            assert found.notes == {"backend": backend, "device": "cpu"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_cosine_is_near_numpy_and_the_same_whatever_the_memory(on_cpu, monkeypatch, backend):
    set_backend(monkeypatch, backend)
    q, g, *ids = problem(3, 150, 700, 40, 25)
    found = [rank_metrics_from_embeddings(*tensors(q, g), *ids, memory=memory) for memory in ("256MB", "100KB", 1)]
    same(found[0], found[1])
    same(found[0], found[2])
    expected = rank_metrics_from_embeddings(q, g, *ids)
    assert abs(found[0].mAP - expected.mAP) < 1e-4
    np.testing.assert_allclose(found[0].ap, expected.ap, atol=0.01)


def test_the_order_of_the_gallery_means_nothing(on_cpu):
    q, g, *ids = problem(3, 60, 500, 23, 20)
    g[::2] = g[1]
    expected = rank_metrics_from_embeddings(*tensors(q, g), *ids)
    assert expected.tie_share > 0
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(g))
        same(
            rank_metrics_from_embeddings(*tensors(q, g[order]), ids[0], ids[1][order], ids[2], ids[3][order]), expected
        )


def test_every_tile_is_multiplied_once_where_there_is_memory(on_cpu, monkeypatch):
    calls = []

    def product(left, right, metric, real=_device_tiles.tile_distances):
        calls.append(1)
        return real(left, right, metric)

    monkeypatch.setattr("reid_core.metrics._device.tile_distances", product)
    q, g, *ids = problem(5, 130, 260, 8, 20)
    ids[1][ids[1] == -1] = 0
    ticks: list[tuple[int, int]] = []
    rank_metrics_from_embeddings(*tensors(q, g), *ids, progress=lambda *tick: ticks.append(tick))
    assert len(calls) == 3 * 5 and ticks == [(k, 5) for k in range(1, 6)]
    calls.clear()
    ticks.clear()
    rank_metrics_from_embeddings(*tensors(q, g), *ids, memory=1, progress=lambda *tick: ticks.append(tick))
    assert len(calls) > 3 * 5 and ticks == [(k, 15) for k in range(1, 16)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64", "uint8"])
def test_a_matrix_gives_the_bits_of_numpy(on_cpu, backend, kind):
    rng = np.random.default_rng(1)
    for queries, gallery in ((1, 2), (70, 63), (65, 300)):
        q, _, *ids = problem(2, queries, gallery, 4, 8)
        distances = rng.integers(0, 200, (queries, gallery)).astype(kind)
        if kind == "float64":
            distances += 1e-12 * rng.integers(0, 3, distances.shape)
        for protocol in ("market1501", "any-camera"):
            expected = outcome(rank_metrics, distances, *ids, protocol=protocol)
            for tensor in (*tensors(distances), torch.from_numpy(distances.T.copy()).T):
                found = outcome(rank_metrics, tensor, *ids, protocol=protocol, backend=backend)
                if isinstance(expected, str):
                    assert found == expected
                else:
                    same(found, expected)
                    assert found.notes == {"backend": backend, "device": "cpu"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"gallery": np.ones((4, 2))}, UsageError, "query is a torch tensor and gallery is ndarray"),
        ({"gallery": torch.ones(4, 2, device="meta")}, UsageError, "query is on cpu, gallery is on meta"),
        ({"gallery": torch.ones(4, 2).to_sparse()}, UsageError, "gallery must be a dense tensor"),
        ({"gallery": torch.ones(4, 3)}, UsageError, "query embeddings have 2 numbers, gallery embeddings 3"),
        ({"gallery": torch.ones(4)}, UsageError, r"gallery embeddings must be \(N, D\)"),
        ({"gallery": torch.ones(4, 2, dtype=torch.complex64)}, UsageError, "complex64"),
        ({"metric": "cosin"}, UsageError, "unknown distance 'cosin'.*cosine"),
        ({"q_pids": [8, 9]}, DataError, "none of the 2 queries has a match"),
        (
            {"gallery": torch.full((4, 2), 1e300, dtype=torch.float64), "metric": "euclidean"},
            NumericalError,
            "query image 0 to gallery image 0 is (inf|nan): their embeddings are too far apart",
        ),
        ({"query": torch.zeros(2, 2)}, NumericalError, r"query image 0 \(a.jpg\) is all zeros"),
        (
            {"gallery": torch.tensor([[1, 2], [1, torch.nan], [2, 2], [3, 1.0]])},
            NumericalError,
            "image 1 is not finite",
        ),
    ],
)
def test_what_does_not_fit_is_named(on_cpu, change, error, words):
    call = {
        "query": torch.ones(2, 2),
        "gallery": torch.ones(4, 2),
        "q_pids": [1, 2],
        "g_pids": [1, 1, 2, 2],
        "q_camids": [0, 0],
        "g_camids": [1, 1, 1, 1],
        "query_names": ["a.jpg", "b.jpg"],
    }
    with pytest.raises(error, match=words):
        rank_metrics_from_embeddings(**{**call, **change})


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "is NaN"), (np.inf, "is infinite"), (-np.inf, "is minus infinity")],
)
def test_a_matrix_that_is_not_finite_is_refused(on_cpu, value, words):
    distmat = torch.rand(70, 90)
    distmat[66, 13] = value
    ids = [0] * 70, [0] * 90, [0] * 70, [1] * 90
    with pytest.raises(NumericalError, match=rf"distmat\[66, 13\] {words} \(query 66, gallery image 13\)"):
        rank_metrics(distmat, *ids)
    distmat[20, 80] = value  # the first one is named, in a block of its own
    with pytest.raises(NumericalError, match=rf"distmat\[20, 80\] {words}"):
        rank_metrics(distmat, *ids)


def test_images_too_far_apart_are_named_as_they_were_given(on_cpu):
    """Queries and gallery are put in the order of their identities; the message speaks of the caller's."""
    ids = [5, 9, 2], [9, 2, 9, 7, 5], [0] * 3, [1] * 5
    for side, image, words in (
        (0, 1, r"query image 1 to gallery image \d"),
        (1, 3, r"query image \d to gallery image 3"),
    ):
        sides = torch.ones(3, 2, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64)
        sides[side][image] = 1e300
        with pytest.raises(
            NumericalError, match=f"distance of {words} is (inf|nan): their embeddings are too far apart"
        ):
            rank_metrics_from_embeddings(*sides, *ids, "euclidean")


def test_near_images_have_a_distance(on_cpu):
    """Rounding makes some squared distances negative; a root of these would be no number, and refused."""
    rows = 1e8 + np.random.default_rng(7).normal(size=(60, 5))
    ids = np.arange(60), np.arange(60), [0] * 60, [1] * 60
    assert rank_metrics_from_embeddings(*tensors(rows, rows + 1e-7), *ids, "euclidean").num_valid_queries == 60


@pytest.mark.parametrize("kind", [torch.int32, torch.int64, torch.float64])
def test_numbers_that_float32_cannot_tell_apart_are_told_apart(on_cpu, kind):
    distmat = torch.tensor([[2**24, 2**24 + 1], [2**24 + 1, 2**24]], dtype=kind)
    found = rank_metrics(distmat, [1, 1], [1, 2], [0, 0], [1, 1])
    assert found.first_hit.tolist() == [0, 1] and found.tie_share == 0


def test_a_matrix_that_does_not_fit_is_refused(on_cpu):
    ids = [1, 2], [1, 1, 2], [0, 0], [1, 1, 1]
    for distmat, more, words in (
        (torch.rand(2), {}, "distmat must be"),
        (torch.rand(0, 3), {}, "no query"),
        (torch.rand(2, 4), {}, "g_pids must have one entry"),
        (torch.rand(2, 3, dtype=torch.complex64), {}, "complex64"),
        (torch.full((2, 3), 2**53 + 2), {}, "beyond 2"),
        (torch.full((2, 3), -(2**53) - 2), {}, "beyond 2"),
        (torch.rand(2, 3), {"max_rank": 0}, "max_rank must be at least 1"),
        (torch.rand(2, 3), {"protocol": "cuhk03"}, "distmat.cpu"),
        (torch.rand(2, 3), {"backend": "gpu"}, "backend must be auto, native or python"),
    ):
        with pytest.raises(UsageError, match=words):
            rank_metrics(distmat, *ids, **more)


def test_products_are_float32_whatever_was_set_before(on_cpu):
    """TF32, bfloat16 and autocast, asked for by the caller, stay out of the distances; and the settings come back."""
    q, g, *ids = problem(9, 60, 200, 64, 12)
    expected = rank_metrics_from_embeddings(*tensors(q, g), *ids)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            same(rank_metrics_from_embeddings(*tensors(q, g), *ids), expected)
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for device in ("cpu", "cuda"):
        matmul = torch.backends.cuda.matmul if device == "cuda" else torch.backends.mkldnn.matmul
        before = matmul.fp32_precision
        matmul.fp32_precision = "tf32"
        try:
            with _device_tiles.plain_arithmetic(torch.device(device)):
                assert matmul.fp32_precision == "ieee" and not torch.is_grad_enabled()
            assert matmul.fp32_precision == "tf32"
        finally:
            matmul.fp32_precision = before


def test_arrays_do_not_import_torch():
    program = (
        "import sys, numpy as np\n"
        "from reid_core.metrics.embeddings import rank_metrics_from_embeddings\n"
        "from reid_core.metrics.rank import rank_metrics\n"
        "ids = [1], [1, 2], [0], [1, 1]\n"
        "rank_metrics_from_embeddings(np.ones((1, 2)), np.ones((2, 2)), *ids)\n"
        "rank_metrics(np.ones((1, 2)), *ids)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("tf32", [False, True])
def test_on_a_gpu(monkeypatch, metric, tf32):
    """Two tiles and a bit on each side: the figures of the CPU but for rounding, equal bits for every memory."""
    q, g, *ids = problem(11, 2100, 4200, 129, 300)
    there = [values.cuda() for values in tensors(q, g)]
    monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32" if tf32 else "ieee")
    found = [rank_metrics_from_embeddings(*there, *ids, metric, memory=memory) for memory in ("256MB", "20MB")]
    same(*found)
    assert found[0].notes["device"] == "cuda:0"
    expected = rank_metrics_from_embeddings(q, g, *ids, metric)
    if metric == "euclidean":
        same(found[0], expected)
    else:
        assert abs(found[0].mAP - expected.mAP) < 1e-4
    distances = distance_matrix(q, g, metric)
    on_device = rank_metrics(torch.from_numpy(distances).cuda(), *ids)
    same(on_device, rank_metrics(distances, *ids))
    assert on_device.notes["backend"] == ("native" if not ops.why_missing("cuda") else "python")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("width", [129, 512])
def test_the_order_of_the_gallery_means_nothing_on_a_gpu(width):
    rng = np.random.default_rng(12)
    q, g = (rng.normal(size=(n, width)).astype(np.float32) for n in (300, 4200))
    g[::2] = g[1]
    ids = rng.integers(0, 60, 300), rng.integers(-1, 60, 4200), rng.integers(0, 4, 300), rng.integers(0, 4, 4200)
    there = torch.from_numpy(q).cuda()
    expected = rank_metrics_from_embeddings(there, torch.from_numpy(g).cuda(), *ids)
    assert expected.tie_share > 0
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(g))
        found = rank_metrics_from_embeddings(
            there, torch.from_numpy(g[order]).cuda(), ids[0], ids[1][order], ids[2], ids[3][order]
        )
        same(found, expected)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_are_refused():
    ids = [1], [1, 2], [0], [1, 1]
    with pytest.raises(UsageError, match="query is on cuda:0, gallery is on cuda:1"):
        rank_metrics_from_embeddings(torch.ones(1, 2).cuda(0), torch.ones(2, 2).cuda(1), *ids)

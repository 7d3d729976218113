"""The losses' CUDA kernels, run on the processor in shuffled orders of threads, against the definitions in float64."""

import math

import kernel_build
import pytest

torch = pytest.importorskip("torch")
from loss_kernels import Kernels, loss_type  # noqa: E402

from reid_core.losses.balanced_softmax import balanced_softmax_loss, prior_shift  # noqa: E402
from reid_core.losses.co_refine import co_refine_loss  # noqa: E402
from reid_core.losses.confidence_penalty import confidence_penalty  # noqa: E402
from reid_core.losses.self_refine import label_refine_loss  # noqa: E402
from reid_core.losses.smoothed_cross_entropy import smoothed_cross_entropy  # noqa: E402
from reid_core.losses.soft_target_cross_entropy import soft_target_cross_entropy  # noqa: E402

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SEEDS = (0, 1)
SHARE = 8192
"""Classes of a block at most."""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "loss_kernel_cases.so"
    return Kernels(kernel_build.compile_kernels("loss_kernel_cases.cpp", path, "-O1", "-shared", "-fPIC"))


def by_row(logits, seed=0):
    """Something random for each row."""
    generator = torch.Generator().manual_seed(seed)
    grad = torch.randn(len(logits), generator=generator, dtype=torch.float64).clamp(-2, 2)
    return grad.to(loss_type(logits)), torch.randint(logits.shape[1], (len(logits),), generator=generator)


class Loss:
    """A loss as the kernels compute it, and its definition."""

    def __init__(self, definition, forward, backward):
        self.definition, self.forward, self.backward = definition, forward, backward


def co_refine_of(weights, learner):
    def forward(kernels, z, peer):
        pair = (z, peer) if learner == 0 else (peer, z)
        losses, statistics = kernels.co_refine_pair(*pair, weights)
        return losses[learner], statistics

    def backward(kernels, grad, z, peer, statistics):
        return kernels.co_refine_backward(grad, z, peer, statistics, learner, weights)

    return Loss(lambda z, peer: co_refine_loss(z, peer.to(z.dtype), *weights, backend="torch"), forward, backward)


def cross_entropy_of(definition, given, own, smoothing, tau=None):
    def shift_of(z):
        return None if tau is None else prior_shift(z, counts(z.shape[1]), tau)

    def forward(kernels, z, peer):
        return kernels.cross_entropy(z, by_row(z)[1], shift_of(z), (given, own, smoothing))

    def backward(kernels, grad, z, peer, statistics):
        return kernels.cross_entropy_backward(grad, z, by_row(z)[1], shift_of(z), statistics, (given, own, smoothing))

    return Loss(lambda z, peer: definition(z, by_row(z)[1]), forward, backward)


def counts(classes):
    return (torch.arange(classes) * 37 % 101).clamp_min(3)


def targets_of(z, peer):
    """Probabilities of the peer, some of them 0."""
    return peer.double().softmax(1) * (torch.arange(z.shape[1]) % 5 != 3)


def soft_target_of(wide):
    def made(z, peer):
        targets = targets_of(z, peer)
        return targets.to(loss_type(z) if wide else z.dtype)

    # What the kernel is given is rounded; so is what the definition is given.
    return lambda dtype: Loss(
        lambda z, peer: soft_target_cross_entropy(z, made(peer, peer).to(z.dtype), backend="torch"),
        lambda kernels, z, peer: kernels.soft_target(z, made(z, peer)),
        lambda kernels, grad, z, peer, statistics: kernels.soft_target_backward(grad, z, made(z, peer), statistics),
    )


LOSSES = {
    "co_refine": co_refine_of((1.0, 1.0, 1.0), 0),
    "co_refine, the other": co_refine_of((0.5, 1.0, 0.25), 1),
    "label_refine": cross_entropy_of(lambda z, y: label_refine_loss(z, y, 0.3, backend="torch"), 0.7, 0.3, 0.0),
    "smoothed": cross_entropy_of(lambda z, y: smoothed_cross_entropy(z, y, 0.1, backend="torch"), 1.0, 0.0, 0.1),
    "balanced": cross_entropy_of(
        lambda z, y: balanced_softmax_loss(z, y, counts(z.shape[1]), 0.7, 0.1, backend="torch"), 1.0, 0.0, 0.1, 0.7
    ),
    "soft_target": soft_target_of(False)(None),
    "soft_target in float32": soft_target_of(True)(None),
    "confidence_penalty": Loss(
        lambda z, peer: confidence_penalty(z, backend="torch"),
        lambda kernels, z, peer: kernels.confidence_penalty(z),
        lambda kernels, grad, z, peer, statistics: kernels.confidence_penalty_backward(grad, z, statistics),
    ),
}


def random_pair(rows, classes, dtype, seed=0):
    """Rows of different sizes; some agree, some have ties."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, rows, classes, generator=generator, dtype=torch.float64)
    size = torch.tensor([1.0, 10_000.0, 30.0])[torch.arange(rows) % 3, None]
    a, b = a * size, b * size.flip(0)
    b[::2] += a[::2]
    a[2::3] = a[2::3].round()
    return a.clamp(-1e4, 1e4).to(dtype), b.clamp(-1e4, 1e4).to(dtype)


def expected(loss, z, peer, grad):
    """The definition, in float64, of the numbers that the kernel is given."""
    exact = z.double().requires_grad_()
    values = loss.definition(exact, peer)
    (gradient,) = torch.autograd.grad(values, exact, grad.double())
    return values.detach(), gradient


def assert_near(values, gradient, wanted, wanted_gradient, dtype):
    """The bars: 1e-6 of max(1, |loss|), 1e-6 of a gradient that is then rounded to its type."""
    bar = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(values.double() / wanted.abs().clamp(1, 1e30), wanted / wanted.abs().clamp(1, 1e30),
                               rtol=0, atol=bar, equal_nan=True)  # fmt: skip
    rounding = torch.finfo(dtype).eps / 2 if dtype in (torch.bfloat16, torch.float16) else 0
    torch.testing.assert_close(gradient.double(), wanted_gradient, rtol=rounding, atol=bar, equal_nan=True)


def solve(kernels, loss, z, peer, grad):
    """Loss and gradient, the same bits in every order of threads and blocks."""
    found = []
    for kernels.seed in SEEDS:
        values, statistics = loss.forward(kernels, z, peer)
        found.append((values, loss.backward(kernels, grad, z, peer, statistics)))
    for values, gradient in found[1:]:
        assert values.numpy().tobytes() == found[0][0].numpy().tobytes()
        assert gradient.view(torch.uint8).numpy().tobytes() == found[0][1].view(torch.uint8).numpy().tobytes()
    return found[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [1, 31, 33, 751, 4099])
@pytest.mark.parametrize("name", LOSSES)
def test_the_definition(kernels, name, classes, dtype):
    for rows in (0, 1, 3):
        z, peer = random_pair(rows, classes, dtype, seed=rows)
        grad, _ = by_row(z)
        found = solve(kernels, LOSSES[name], z, peer, grad)
        assert_near(*found, *expected(LOSSES[name], z, peer, grad), dtype)


@pytest.mark.parametrize("classes", [SHARE, SHARE + 1, 3 * SHARE + 4])
@pytest.mark.parametrize("name", LOSSES)
def test_a_row_in_several_parts(kernels, name, classes):
    """Each part has a block of its own; the largest logit lies in each of them once."""
    z, peer = random_pair(3, classes, torch.float32)
    for row, place in enumerate((5, classes // 2, classes - 1)):
        z[row, place] += 2.0
        peer[row, -place] += 2.0
    grad, _ = by_row(z)
    found = solve(kernels, LOSSES[name], z, peer, grad)
    assert_near(*found, *expected(LOSSES[name], z, peer, grad), torch.float32)


@pytest.mark.parametrize("name", LOSSES)
def test_many_classes_cost_no_digits(kernels, name):
    """Equal logits round alike, so that errors would add up: the other part of the loss is in all 100,000 classes."""
    z = torch.full((2, 100_000), -0.7)
    peer = torch.full((2, 100_000), 0.1)
    z[0, 77] = 11.3
    peer[1, 77] = 11.9
    z[1] += torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    grad = torch.ones(2)
    values, statistics = LOSSES[name].forward(kernels, z, peer)
    gradient = LOSSES[name].backward(kernels, grad, z, peer, statistics)
    assert_near(values, gradient, *expected(LOSSES[name], z, peer, grad), torch.float32)


def test_a_difference_keeps_its_rounding(kernels):
    """-0.52 - 11.3 is rounded in float32, alike in 99,999 classes: without what is lost the logarithm is 2e-7 off."""
    z = torch.full((1, 100_000), -0.52)
    z[0, 77] = 11.3
    exact = torch.logsumexp(z.double(), 1) - z[:, 77].double()
    found = [kernels.co_refine_pair(z, z, (1.0, 1.0, 1.0))[1][0], kernels.confidence_penalty(z)[1]]
    found.append(kernels.cross_entropy(z, torch.tensor([0]), torch.zeros(100_000), (1.0, 0.0, 0.0))[1])
    for statistics in found:
        torch.testing.assert_close(statistics[:, 1], exact, rtol=0, atol=3e-8)


INF, NAN = math.inf, math.nan
ODD_ROWS = {
    "ties": ([1, 3, 3, 0], [2, 2, 2, 2]),
    "a tie of zeros": ([-0.0, 0.0, -1, -2], [0.0, -0.0, -1, -2]),
    "NaN in front": ([NAN, 1, 2, 3], [1, 2, 3, 4]),
    "NaN behind the largest": ([1, 9, NAN, NAN], [1, 2, 3, 4]),
    "NaN of the peer": ([1, 2, 3, 4], [1, 9, 2, NAN]),
    "NaN of both": ([1, NAN, 3, 4], [1, NAN, 2, 5]),
    "a class that both rule out": ([1, 2, -INF, 0], [2, 1, -INF, 3]),
    "a class that the peer finds impossible": ([1, -INF, 2, 0], [2, -2000, 1, 1]),
    "a class that only the network rules out": ([1, -INF, 2, 0], [2, 1, 1, 1]),
    "what the peer predicts is ruled out": ([1, -INF, 2, 0], [2, 7, 1, 1]),
    "all ruled out": ([-INF] * 4, [1, 2, 3, 4]),
    "the peer rules out all": ([1, 2, 3, 4], [-INF] * 4),
    "infinite": ([1, INF, 2, 3], [4, 1, 2, 3]),
    "infinite peer": ([1, 2, 3, 4], [1, INF, 2, 3]),
    "twice infinite": ([1, INF, INF, 3], [4, 1, 2, 3]),
    "sure of the same": ([1e4, 0, -1e4, 5], [1e4, 0, -1e4, 5]),
    "sure of another": ([1e4, 0, -1e4, 5], [-1e4, 0, 1e4, 5]),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_odd_rows(kernels, name, dtype):
    """Row by row as the definition, and every row alone: nothing of one reaches another."""
    z, peer = (torch.tensor([pair[k] for pair in ODD_ROWS.values()], dtype=dtype) for k in (0, 1))
    grad, _ = by_row(z)
    values, gradient = solve(kernels, LOSSES[name], z, peer, grad)
    assert_near(values, gradient, *expected(LOSSES[name], z, peer, grad), dtype)


@pytest.mark.parametrize("name", LOSSES)
def test_logits_too_far_apart_for_their_type(kernels, name):
    """Their difference is infinite in float32; a class with probability 0 still costs nothing."""
    z = torch.tensor([[3e38, -3e38, 3e38, 0.0]])
    peer = torch.tensor([[3e38, -3e38, 2.9e38, 0.0]])
    grad, _ = by_row(z)
    values, gradient = solve(kernels, LOSSES[name], z, peer, grad)
    wanted, wanted_gradient = expected(LOSSES[name], z, peer, grad)
    if name in ("smoothed", "balanced"):  # a mean over all classes: infinite, as the definition is in float32
        wanted = LOSSES[name].definition(z, peer)
        assert wanted.item() == math.inf
    torch.testing.assert_close(values, wanted.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient.double(), wanted_gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("behind", [False, True])
def test_a_part_without_a_possible_class(kernels, name, behind):
    """All of one block's classes are ruled out by one network, and by the other found impossible or ruled out too."""
    z, peer = random_pair(4, 2 * SHARE, torch.float32)
    half = slice(SHARE, None) if behind else slice(0, SHARE)
    z[:, half] = -INF
    peer[:2, half] = -INF
    peer[2, half] = -30_000
    peer[3, half] = 3.0
    grad, labels = by_row(z)
    found = solve(kernels, LOSSES[name], z, peer, grad)
    assert_near(*found, *expected(LOSSES[name], z, peer, grad), torch.float32)


def test_a_peer_probability_is_0_where_it_is_0_in_the_type_of_the_loss(kernels):
    """e^-140 is 0 in float32, and more than 0 in float64. Beside other parts, and in the same one."""
    for classes in (4, 2 * SHARE):
        for dtype, infinite in ((torch.float32, False), (torch.float64, True), (torch.bfloat16, False)):
            z, peer = torch.zeros(1, classes, dtype=dtype), torch.zeros(1, classes, dtype=dtype)
            z[0, -1], peer[0, -1] = -INF, -140
            losses, _ = kernels.co_refine_pair(z, peer, (1.0, 1.0, 1.0))
            assert losses[0].isinf().item() == infinite and losses[1].isfinite()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "name", ["co_refine", "balanced", "soft_target", "soft_target in float32", "confidence_penalty"]
)
def test_where_rows_lie_changes_no_bit(kernels, name, dtype):
    """Rows that begin at any address, and are apart."""
    z, peer = random_pair(3, 1033, dtype)
    grad, _ = by_row(z)
    wanted, wanted_gradient = solve(kernels, LOSSES[name], z, peer, grad)
    for offset, apart in ((0, 1040), (1, 1040), (3, 1041), (2, 1033)):
        moved = []
        for k, values in enumerate((z, peer)):
            room = torch.full((offset + k + 3 * apart,), NAN, dtype=dtype)
            moved.append(room.as_strided((3, 1033), (apart, 1), offset + k))
            moved[k].copy_(values)
        found, gradient = solve(kernels, LOSSES[name], *moved, grad)
        assert torch.equal(found, wanted) and torch.equal(gradient, wanted_gradient)


def test_columns_may_be_apart_or_one_number(kernels):
    """Labels and gradients of losses with a stride; a mean's gradient is one number for all rows."""
    z, peer = random_pair(5, 33, torch.float32)
    grad, labels = by_row(z)
    wide = torch.stack([grad, grad + 1], 1)[:, 0]
    assert wide.stride(0) == 2
    for name in LOSSES:
        wanted = solve(kernels, LOSSES[name], z, peer, grad)[1]
        assert torch.equal(solve(kernels, LOSSES[name], z, peer, wide)[1], wanted)
        one = torch.tensor(0.2).expand(5)
        assert torch.equal(
            solve(kernels, LOSSES[name], z, peer, one)[1], solve(kernels, LOSSES[name], z, peer, one.contiguous())[1]
        )
    apart = torch.stack([labels, labels + 1000], 1)[:, 0]
    for given in (labels, apart):
        loss, _ = kernels.cross_entropy(z, given, None, (1.0, 0.0, 0.0))
        torch.testing.assert_close(loss, smoothed_cross_entropy(z, labels, backend="torch"))


def test_the_peer_may_only_teach(kernels):
    """The one-sided form leaves the second network's losses unwritten."""
    a, b = random_pair(4, 751, torch.float32)
    both, statistics = kernels.co_refine_pair(a, b, (0.5, 1.0, 0.25))
    one, same = kernels.co_refine_pair(a, b, (0.5, 1.0, 0.25), one_sided=True)
    assert torch.equal(one[0], both[0]) and torch.equal(same, statistics)


@pytest.mark.parametrize("label", [-1, 33, 1 << 40])
def test_a_wrong_label_is_nan_in_its_row(kernels, label):
    z, _ = random_pair(3, 33, torch.float32)
    grad, labels = by_row(z)
    labels[1] = label
    for weights, wrong in (((1.0, 0.0, 0.1), True), ((0.7, 0.3, 0.0), True), ((0.0, 1.0, 0.0), False)):
        loss, statistics = kernels.cross_entropy(z, labels, None, weights)
        gradient = kernels.cross_entropy_backward(grad, z, labels, None, statistics, weights)
        assert loss.isnan().tolist() == gradient.isnan().any(1).tolist() == [False, wrong, False]
    losses, predictions = kernels.peer_statistics(z, z, labels)
    assert losses.isnan().tolist() == [[False, True, False]] * 2
    assert predictions.tolist() == [z.argmax(1).tolist()] * 2


def test_the_first_wrong_label_is_found(kernels):
    labels = torch.arange(1000) % 33
    for kernels.seed in SEEDS:
        assert kernels.find_wrong_label(labels, 33) == [-1, 0]
        assert kernels.find_wrong_label(labels[:0], 33) == [-1, 0]
        for rows, wrong in (([0], -1), ([999], 33), ([131, 130, 700], 1 << 40), ([127, 128], 99)):
            bad = labels.clone()
            bad[rows] = wrong
            apart = torch.stack([bad, labels + 50], 1)[:, 0]
            assert kernels.find_wrong_label(bad, 33) == kernels.find_wrong_label(apart, 33) == [min(rows), wrong]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [1, 33, 751, 4099, 2 * SHARE + 3])
def test_peer_statistics(kernels, classes, dtype):
    for rows in (0, 1, 3):
        pair = random_pair(rows, classes, dtype)
        _, labels = by_row(pair[0])
        for kernels.seed in SEEDS:
            losses, predictions = kernels.peer_statistics(*pair, labels)
            for k, z in enumerate(pair):
                wanted = smoothed_cross_entropy(z.double(), labels, backend="torch")
                bar = 1e-12 if dtype == torch.float64 else 1e-6
                torch.testing.assert_close(
                    losses[k].double() / wanted.clamp(1), wanted / wanted.clamp(1), rtol=0, atol=bar
                )
                assert torch.equal(predictions[k], z.argmax(1))


def test_predictions_of_odd_rows(kernels):
    """As PyTorch's argmax: ties to the lowest class, the first NaN before all."""
    pair = [torch.tensor([rows[k] for rows in ODD_ROWS.values()]) for k in (0, 1)]
    _, predictions = kernels.peer_statistics(*pair, torch.zeros(len(ODD_ROWS), dtype=torch.int64))
    assert predictions.tolist() == [z.argmax(1).tolist() for z in pair]
    # And across parts.
    z = torch.zeros(3, 3 * SHARE)
    z[1, [SHARE + 3, 2 * SHARE]] = 1
    z[2, [SHARE - 1, SHARE, 2 * SHARE]] = torch.tensor([2.0, NAN, NAN])
    _, predictions = kernels.peer_statistics(z, z, torch.zeros(3, dtype=torch.int64))
    assert predictions[0].tolist() == [0, SHARE + 3, SHARE]

"""Compiled products: the order of additions that is promised, to the bit, with every instruction set of this machine."""

from fractions import Fraction

import numpy as np
import pytest

from eval_lib import _native

_product = _native.product()
pytestmark = pytest.mark.skipif(_product is None, reason=f"compiled products are missing: {_native.why_missing()}")
ISAS = {} if _product is None else _product.isas()
FUSED = ("avx2", "avx512")
# Around the sides of blocks (12, 16, 32, 192) and the numbers worked on at a time (256, 512).
SHAPES = [
    (1, 1, 1),
    (12, 32, 3),
    (13, 33, 16),
    (11, 31, 17),
    (40, 70, 255),
    (24, 16, 513),
    (193, 5, 130),
    (3, 100, 1030),
]


def pack(values, right, factors=None, rows=None):
    rows = np.arange(len(values)) if rows is None else rows
    width = _product.panel_widths(values.itemsize)[right]
    factors = np.ones(len(rows), values.dtype) if factors is None else factors
    out = np.full((-(-len(rows) // width), values.shape[1], width), np.nan, values.dtype)
    (_product.pack_float32 if values.dtype == np.float32 else _product.pack_float64)(values, rows, factors, out)
    return out


def multiply(left, right, isa, packed=None):
    out = np.full((len(left) + 2, len(right) + 3), 7, left.dtype)
    call = _product.multiply_float32 if left.dtype == np.float32 else _product.multiply_float64
    call(*(packed or (pack(left, False), len(left), pack(right, True), len(right))), ISAS[isa], out)
    assert (out[len(left) :] == 7).all() and (out[:, len(right) :] == 7).all()  # beyond the end nothing is written
    return out[: len(left), : len(right)]


def in_order(left, right, fused):
    """The definition in float32; a product of two such numbers is exact in long double."""
    total = np.zeros((len(left), len(right)), np.float32)
    for k in range(left.shape[1]):
        product = left[:, None, k].astype(np.longdouble) * right[None, :, k].astype(np.longdouble)
        total = (total + (product if fused else product.astype(np.float32))).astype(np.float32)
    return total


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_float32_is_added_up_in_order(isa, shape):
    rng = np.random.default_rng(shape[0])
    left, right = (rng.normal(size=(n, shape[2])).astype(np.float32) for n in shape[:2])
    np.testing.assert_array_equal(multiply(left, right, isa), in_order(left, right, isa in FUSED))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(2, 3, 5), (13, 17, 20), (1, 2, 700)])
def test_float64_is_added_up_in_order(isa, shape):
    rng = np.random.default_rng(1)
    left, right = (rng.normal(size=(n, shape[2])) for n in shape[:2])
    found = multiply(left, right, isa)
    for i in range(shape[0]):
        for j in range(shape[1]):
            total = 0.0
            for a, b in zip(left[i].tolist(), right[j].tolist()):
                product = Fraction(a) * Fraction(b)
                total = float(Fraction(total) + (product if isa in FUSED else Fraction(float(product))))
            assert found[i, j] == total


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_pair_is_the_same_anywhere(isa, kind):
    """What BLAS does not promise: other positions, other sizes, the sides exchanged."""
    rng = np.random.default_rng(2)
    left, right = (rng.normal(size=(n, 600)).astype(kind) for n in (250, 130))
    whole = multiply(left, right, isa)
    rows, columns = rng.permutation(250), rng.permutation(130)
    np.testing.assert_array_equal(multiply(left[rows], right[columns], isa), whole[rows][:, columns])
    np.testing.assert_array_equal(multiply(right, left, isa), whole.T)
    for a, b in ((1, 1), (5, 129), (17, 40)):
        np.testing.assert_array_equal(multiply(left[-a:], right[-b:], isa), whole[-a:, -b:])


@pytest.mark.parametrize("isa", ISAS)
def test_numbers_that_are_not_numbers_stay_with_their_pairs(isa):
    left, right = np.ones((14, 20), np.float32), np.ones((40, 20), np.float32)
    left[3, 19], right[33, 0], right[7, 5] = np.nan, np.inf, 3e38
    left[6, 5] = 10
    found = multiply(left, right, isa)
    expected = np.full((14, 40), 20, np.float32)
    expected[:, 33], expected[:, 7], expected[6] = np.inf, 3e38, 29
    expected[6, 33], expected[6, 7], expected[3] = np.inf, np.inf, np.nan
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_packing_gathers_scales_and_fills(right, kind):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(60, 2, 37)).astype(kind)[:, 1]  # rows lie apart
    rows = rng.integers(0, 60, 45)
    factors = rng.normal(size=45).astype(kind)
    width = _product.panel_widths(values.itemsize)[right]
    packed = pack(values, right, factors, rows)
    whole = np.zeros((len(packed) * width, 37), kind)
    whole[:45] = values[rows] * factors[:, None]
    np.testing.assert_array_equal(packed, whole.reshape(-1, width, 37).transpose(0, 2, 1))


def test_what_would_reach_outside_is_refused():
    values, out = np.ones((5, 3), np.float32), np.empty((1, 3, 12), np.float32)
    ones = np.ones(5, np.float32)
    for rows in ([0, 5], [-1, 0]):
        with pytest.raises(ValueError, match="rows must lie in the table"):
            _product.pack_float32(values, np.array(rows), ones[:2], out)
    with pytest.raises(ValueError, match="a factor and a place"):
        _product.pack_float32(values, np.arange(5), ones[:4], out)
    with pytest.raises(ValueError, match="a factor and a place"):
        _product.pack_float32(np.ones((13, 3), np.float32), np.arange(13), np.ones(13, np.float32), out)
    with pytest.raises(ValueError, match="neighbours"):
        _product.pack_float32(np.ones((5, 6), np.float32)[:, ::2], np.arange(5), ones, out)
    left, right = pack(values, False), pack(values, True)
    target = np.empty((5, 5), np.float32)
    isa = max(ISAS.values())
    for call, words in (
        ((left, 13, right, 5, isa, target), "as many rows as were packed"),
        ((left, 5, right, 33, isa, target), "as many rows as were packed"),
        ((left, -1, right, 5, isa, target), "as many rows as were packed"),
        ((left, 6, right, 5, isa, target), "room"),
        ((right, 5, left, 5, isa, target), "packed for each other"),
        ((left, 5, pack(np.ones((5, 4), np.float32), True), 5, isa, target), "packed for each other"),
        ((left, 5, right, 5, 9, target), "instruction set"),
    ):
        with pytest.raises(ValueError, match=words):
            _product.multiply_float32(*call)

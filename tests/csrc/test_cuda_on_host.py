"""What runs kernels without a GPU is right itself: its answers by hand, and every wrong kernel it must refuse."""

import ctypes
import re

import kernel_build
import numpy as np
import pytest

ALL = 0xFFFFFFFF


@pytest.fixture(scope="module")
def run_case(tmp_path_factory):
    """``run_case(name, seed, size, values) -> (what the kernel wrote, message)``."""
    path = tmp_path_factory.mktemp("kernels") / "emulator_cases.so"
    library = ctypes.CDLL(str(kernel_build.compile_kernels("emulator_cases.cpp", path, "-O1", "-shared", "-fPIC")))

    def run(name, seed=0, size=256, values=None):
        out, message = np.zeros(size), ctypes.create_string_buffer(400)
        pointer = None if values is None else values.ctypes.data_as(ctypes.c_void_p)
        library.run_case(
            name.encode(), ctypes.c_uint64(seed), pointer, out.ctypes.data_as(ctypes.c_void_p), message, len(message)
        )
        return out, message.value.decode()

    return run


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("returns_before_barrier", r"__syncthreads at emulator_cases.cpp:\d+ was reached by 31 of 32 threads"),
        ("barrier_in_a_branch", r"was reached by 16 of 32 threads, the others have ended"),
        ("two_barriers", r"different barriers: emulator_cases.cpp:\d+ and emulator_cases.cpp:\d+"),
        ("barrier_against_shuffle", r"__shfl_sync at .*waits for lane 0 of its warp, which waits at the barrier"),
        ("shuffle_with_the_ended", r"__shfl_sync at .*waits for lane 5 of its warp, which has ended"),
        (
            "two_calls",
            r"waits for lane \d+ of its warp, which waits in __\w+ at emulator_cases.cpp:\d+ for other lanes",
        ),
        ("not_in_own_mask", r"lane \d+ is not in its own mask"),
        ("reads_outside_the_mask", r"lane \d+ reads lane 20, which is not in the mask"),
        ("half_a_warp", r"waits for lane 16 of its warp, which the block does not have"),
        ("launches", "a kernel starts a kernel"),
        ("too_many_threads", "refused by CUDA"),
        ("no_blocks", "refused by CUDA"),
    ],
)
def test_what_would_hang_or_be_garbage_is_refused(run_case, name, words):
    for seed in (0, 1, 2):
        _, message = run_case(name, seed)
        assert re.search(words, message), message
    _, message = run_case("shuffles", 3)  # and the next kernel runs as if nothing had been
    assert message == ""


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_calls_for_a_warp_by_hand(run_case, seed):
    out, message = run_case("shuffles", seed)
    assert message == ""
    lanes = np.arange(32)
    rows = out.reshape(8, 32)
    np.testing.assert_array_equal(rows[0], 9)
    np.testing.assert_array_equal(rows[1], lanes // 8 * 8 + 3)
    np.testing.assert_array_equal(rows[2], np.where(lanes < 2, lanes, lanes - 2))
    np.testing.assert_array_equal(rows[3], np.where(lanes % 16 < 13, lanes + 3, lanes))
    np.testing.assert_array_equal(rows[4], 0.5 * (lanes ^ 5))
    np.testing.assert_array_equal(rows[5], sum(1 << k for k in range(0, 32, 3)))
    np.testing.assert_array_equal(rows[6], 1 + 2)
    np.testing.assert_array_equal(rows[7], [sum(1 << k for k in range(32) if k % 5 == lane % 5) for lane in lanes])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_row_reduction(run_case, seed):
    values = np.random.default_rng(0).random((17, 4099), dtype=np.float32)
    out, message = run_case("row_sum", seed, 17, values)
    assert message == ""
    np.testing.assert_allclose(out, values.sum(axis=1, dtype=np.float64), rtol=1e-6)
    np.testing.assert_array_equal(out, run_case("row_sum", 0, 17, values)[0])


@pytest.mark.parametrize("seed", [0, 5])
def test_atomics_and_places(run_case, seed):
    out, _ = run_case("atomics", seed, 6)
    assert out.tolist() == [48, 96 * 2.0**33, 95, -95, 1, 77]
    out, _ = run_case("places", seed, 12 * 24)
    assert out.tolist() == [100 * block + thread for block in range(12) for thread in range(24)]


def test_16_bit_numbers(run_case):
    """Every one of them, and float32 numbers between two of them, just beside, too small and too large."""
    bits = np.arange(65536, dtype=np.uint16)
    halves = bits.view(np.float16).astype(np.float32)
    brains = (bits.astype(np.uint32) << 16).view(np.float32)
    rng = np.random.default_rng(0)
    with np.errstate(invalid="ignore"):
        between = np.nan_to_num(halves[:-1] / 2 + halves[1:] / 2)[rng.integers(0, 65535, 10_000)]
    ties = (rng.integers(0, 65536, 10_000).astype(np.uint32) << 16 | 0x8000).view(np.float32)
    any_bits = rng.integers(0, 1 << 32, 10_000).astype(np.uint32).view(np.float32)
    usual = rng.normal(0, 10, 10_000).astype(np.float32)
    edges = np.array(
        [0, -0.0, np.inf, -np.inf, np.nan, 65519.9, 65520, 65504, 2.0**-25, 2.0**-24, 6e-8, 1e-40], np.float32
    )
    values = np.concatenate([between, np.nextafter(between, 0), np.nextafter(between, 9), ties, any_bits, usual, edges])
    values = np.concatenate([values, np.zeros(65536 - len(values), np.float32)])
    out, message = run_case("halves", 0, 4 * 65536, values)
    assert message == ""
    out = out.reshape(4, 65536)
    np.testing.assert_array_equal(out[0], halves)
    np.testing.assert_array_equal(out[1], brains)
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    rounded = out[2].astype(np.uint16).view(np.float16)
    np.testing.assert_array_equal(rounded, wanted)
    np.testing.assert_array_equal(np.signbit(rounded)[~np.isnan(wanted)], np.signbit(wanted)[~np.isnan(wanted)])
    # The nearer of the two neighbours in bfloat16, the even one of equally near ones.
    low = values.view(np.uint32) & 0xFFFF0000
    with np.errstate(over="ignore", invalid="ignore"):
        high = (low + 0x10000).view(np.float32).astype(np.float64)
        exact = values.astype(np.float64)
        down, up = exact - low.view(np.float32), high - exact
    high = np.where(np.isinf(high), 0, high)
    finite = np.isfinite(values) & np.isfinite(down) & np.isfinite(up)
    upwards = (np.abs(up) < np.abs(down)) | ((np.abs(up) == np.abs(down)) & (low >> 16 & 1 == 1))
    np.testing.assert_array_equal(out[3][finite], ((low >> 16) + upwards)[finite])
    assert np.isnan((out[3][np.isnan(values)].astype(np.uint32) << 16).view(np.float32)).all()
    np.testing.assert_array_equal(out[3][np.isinf(values)], (low >> 16)[np.isinf(values)])


def answers(run_case, name, size):
    """Different results over a few orders."""
    return {run_case(name, seed, size)[0].tobytes() for seed in range(8)}


def test_shuffled_orders_find_races(run_case):
    assert len(answers(run_case, "neighbour_at_once", 64)) > 1
    assert len(answers(run_case, "lost_updates", 2)) > 1
    assert len(answers(run_case, "order_of_blocks", 1)) > 1
    # And the first of them with its barrier is right.
    assert len(answers(run_case, "neighbour", 64)) == 1
    assert run_case("neighbour", 3, 64)[0].tolist() == [(k + 1) % 64 for k in range(64)]


def test_the_same_seed_is_the_same_order(run_case):
    for name, size in (("neighbour_at_once", 64), ("lost_updates", 2)):
        assert run_case(name, 4, size)[0].tobytes() == run_case(name, 4, size)[0].tobytes()


def test_shared_memory_is_new_for_every_block(run_case):
    """What only another block wrote reads as NaN."""
    for seed in (0, 1, 2):
        out, _ = run_case("never_written", seed, 2)
        assert out[0] == 1 and np.isnan(out[1])

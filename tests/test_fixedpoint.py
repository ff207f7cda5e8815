"""Fixed-point arithmetic against exact fractions, and its C against the Python."""

from __future__ import annotations

import ctypes
import math
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import fixedpoint, locate
from tinygen.fixedpoint import (
    INT32_MAX,
    INT32_MIN,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from tinygen.graph import Array
from tinygen.ops import q31

EDGES = [INT32_MIN, INT32_MIN + 1, -(2**30), -3, -2, -1, 0, 1, 2, 3, 2**30, INT32_MAX - 1, INT32_MAX]
int32 = st.integers(INT32_MIN, INT32_MAX) | st.sampled_from(EDGES)


@given(int32, st.integers(0, 31))
def test_division_rounds_halves_away_from_zero(x: int, exponent: int) -> None:
    quotient = Fraction(x, 2**exponent)
    want = math.floor(abs(quotient) + Fraction(1, 2)) * (1 if x >= 0 else -1)
    assert rounding_divide_by_pot(np.array([x]), exponent).tolist() == [want]
    for half in (-3, -1, 1, 3):
        assert rounding_divide_by_pot(np.array([half]), 1).tolist() == [half + (1 if half > 0 else -1) >> 1]


@given(int32, int32)
def test_high_mul_is_the_nearest(a: int, b: int) -> None:
    """Halves go up, whatever the sign; -2**31 squared is the one product that does not fit."""
    want = min(math.floor(Fraction(a * b, 2**31) + Fraction(1, 2)), INT32_MAX)
    assert saturating_rounding_doubling_high_mul(np.array([a]), b).tolist() == [want]


@pytest.mark.parametrize(
    ("real", "split"),
    [
        (0.0, (0, 0)),
        (1.0, (2**30, 1)),
        (0.75, (3 * 2**29, 0)),
        (1 - 2.0**-40, (2**30, 1)),  # rounding reaches 2**31: carried into the shift
        (0.5 + 2.0**-32, (2**30 + 1, 0)),  # half a unit above: the nearest, not the one below
        (2.0**-33, (0, 0)),
        (2.0**-32, (2**30, -31)),
        (2.0**31, (INT32_MAX, 30)),
    ],
)
def test_multiplier_is_the_nearest(real: float, split: tuple[int, int]) -> None:
    assert quantize_multiplier(real) == split


@given(st.floats(2.0**-31, 2.0**29))
def test_multiplier_is_exact_to_its_last_bit(real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    assert 2**30 <= multiplier <= INT32_MAX
    assert abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) - Fraction(real)) <= Fraction(2) ** (
        shift - 32
    )


@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 2, 3), (2, 1, 9), (0, 4), (4, 0)])
def test_blocks_round_as_single_numbers_do(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one multiplier, of one per channel, and of one per number, whatever a block holds."""
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**20), 2**20, shape)
    for by in ((), shape[-1:], shape):
        multiplier, shift = rng.integers(2**30, INT32_MAX, by), rng.integers(-20, 10, by)
        pairs = np.broadcast_arrays(x, multiplier, shift)
        want = [
            multiply_by_quantized_multiplier(np.array([a]), b, c)[0]
            for a, b, c in zip(*map(np.ravel, pairs), strict=True)
        ]
        for block in (1, 6, 2**14):
            monkeypatch.setattr(fixedpoint, "BLOCK", block)
            got = multiply_by_quantized_multiplier(x, multiplier, shift)
            assert got.shape == shape and got.ravel().tolist() == want


PROBE = """#include "tg_fixedpoint.h"
void high_mul(const int32_t *a, const int32_t *b, int32_t *out, int32_t n);
void high_mul(const int32_t *a, const int32_t *b, int32_t *out, int32_t n)
{
    for (int32_t i = 0; i < n; ++i) {
        out[i] = tg_doubling_high_mul(a[i], b[i]);
    }
}
void multiply(const int32_t *x, const int32_t *by, const int32_t *shift, int32_t *out, int32_t n);
void multiply(const int32_t *x, const int32_t *by, const int32_t *shift, int32_t *out, int32_t n)
{
    for (int32_t i = 0; i < n; ++i) {
        out[i] = tg_multiply(x[i], by[i], shift[i]);
    }
}
void exponential(const int32_t *x, int32_t *out, int32_t n);
void exponential(const int32_t *x, int32_t *out, int32_t n)
{
    for (int32_t i = 0; i < n; ++i) {
        out[i] = tg_exp_of_negative(x[i]);
    }
}
void reciprocal(const int32_t *x, int32_t *out, int32_t n);
void reciprocal(const int32_t *x, int32_t *out, int32_t n)
{
    for (int32_t i = 0; i < n; ++i) {
        out[i] = tg_one_over_one_plus(x[i]);
    }
}
"""


def called(library: ctypes.CDLL, name: str, *arrays: Array) -> Array:
    """The function's output for int32 arrays."""
    inputs = [np.ascontiguousarray(a, np.int32) for a in arrays]
    out = np.empty_like(inputs[0])
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*inputs, out)]
    getattr(library, name)(*pointers, ctypes.c_int32(out.size))
    return out


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions of tg_fixedpoint.h for whole arrays."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.c").write_text(PROBE)
    flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-O1", "-fPIC", "-shared")
    include = f"-I{locate.folder('templates') / 'kernels'}"
    target = folder / "probe.so"
    subprocess.run(["gcc", *flags, include, str(folder / "probe.c"), "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


def test_c_computes_the_same(probe: ctypes.CDLL) -> None:
    """Edges with each other, exact halves, and random numbers with every shift."""
    rng = np.random.default_rng(1)
    odd = 2 * rng.integers(-(2**29), 2**29, 500) + 1  # times 2**30: exactly between two results
    a = np.concatenate([np.repeat(EDGES, len(EDGES)), odd, rng.integers(INT32_MIN, INT32_MAX, 500)])
    b = np.concatenate([np.tile(EDGES, len(EDGES)), np.full(500, 2**30), rng.integers(2**30, INT32_MAX, 500)])
    keep = (a != INT32_MIN) | (b != INT32_MIN)
    a, b = a[keep], b[keep]
    want = saturating_rounding_doubling_high_mul(a, b)
    np.testing.assert_array_equal(called(probe, "high_mul", a, b), want)
    shift = rng.integers(-31, 31, a.size)
    x, by = a >> np.maximum(shift, 0), np.where(b >= 2**30, b, 2**30)
    want = multiply_by_quantized_multiplier(x, by, shift)
    np.testing.assert_array_equal(called(probe, "multiply", x, by, shift), want)


def test_c_of_exponential_and_reciprocal(probe: ctypes.CDLL) -> None:
    x = np.concatenate([[0, -1, INT32_MIN], -np.arange(0, 2**31, 99_991)])
    np.testing.assert_array_equal(called(probe, "exponential", x), q31.exp_of_negative(x))
    x = np.concatenate([[0, 1, INT32_MAX], np.arange(0, 2**31, 99_991)])
    np.testing.assert_array_equal(called(probe, "reciprocal", x), q31.one_over_one_plus(x))

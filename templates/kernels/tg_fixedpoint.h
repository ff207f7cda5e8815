/* tinygen: fixed-point requantization of int8 kernels, bit for bit that of TFLite Micro.
 * docs/numerics.md is normative; tinygen/fixedpoint.py is the same in Python.
 * Generated code: it belongs to whoever generated it. */
#ifndef TG_FIXEDPOINT_H
#define TG_FIXEDPOINT_H

#include <stdint.h>

/* A kernel stays a function of its own, so that the linker script can place it and a profile can name it. */
#if defined(__GNUC__) && !defined(__clang__)
#define TG_KERNEL __attribute__((noinline, noclone)) static
#elif defined(__clang__)
#define TG_KERNEL __attribute__((noinline)) static
#else
#define TG_KERNEL static
#endif

/* round(a * b / 2^31), halves as gemmlowp nudges them; overflows only if both are -2^31, which no caller passes. */
static inline int32_t tg_doubling_high_mul(int32_t a, int32_t b)
{
    const int64_t product = (int64_t)a * (int64_t)b;
    const int64_t nudge = product >= 0 ? (int64_t)1 << 30 : 1 - ((int64_t)1 << 30);
    return (int32_t)((product + nudge) / ((int64_t)1 << 31));
}

/* x / 2^exponent rounded to nearest, halves away from zero; exponent in [0, 31]. */
static inline int32_t tg_divide_by_pot(int32_t x, int32_t exponent)
{
    const int32_t mask = (int32_t)(((uint32_t)1 << exponent) - 1U);
    const int32_t remainder = x & mask;
    const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> exponent) + (remainder > threshold ? 1 : 0);
}

/* x * multiplier * 2^(shift - 31); shift in [-31, 30], positive shifts left. */
static inline int32_t tg_multiply(int32_t x, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = shift > 0 ? 0 : -shift;
    return tg_divide_by_pot(tg_doubling_high_mul(x * (int32_t)((uint32_t)1 << left), multiplier), right);
}

static inline int32_t tg_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : (x > high ? high : x);
}

/* Accumulator -> int8 output. */
static inline int8_t tg_requantize(
    int32_t acc, int32_t multiplier, int32_t shift, int32_t zero_point, int32_t low, int32_t high)
{
    return (int8_t)tg_clamp(tg_multiply(acc, multiplier, shift) + zero_point, low, high);
}

/* ---- exponential and reciprocal: Qm holds raw * 2^(m - 31). docs/numerics.md, "Softmax"; tinygen/ops/q31.py. */

/* Zero bits above the highest one; x > 0. */
static inline int32_t tg_leading_zeros(uint32_t x)
{
    int32_t count = 0;
    for (; (x & 0x80000000U) == 0; x <<= 1) {
        ++count;
    }
    return count;
}

/* x * 2^bits limited to int32. */
static inline int32_t tg_shift_left_saturating(int32_t x, int32_t bits)
{
    const int64_t wide = (int64_t)x * ((int64_t)1 << bits);
    return wide > INT32_MAX ? INT32_MAX : (wide < INT32_MIN ? INT32_MIN : (int32_t)wide);
}

/* exp of a Q0 value in [-1/4, 0), by Taylor's series of degree 4 around -1/8; result Q0. */
static inline int32_t tg_exp_of_last_quarter(int32_t value)
{
    const int32_t exp_minus_eighth = 1895147668;
    const int32_t one_third = 715827883;
    const int32_t x = value + ((int32_t)1 << 28);
    const int32_t x2 = tg_doubling_high_mul(x, x);
    const int32_t x3 = tg_doubling_high_mul(x2, x);
    const int32_t x4_over_4 = tg_divide_by_pot(tg_doubling_high_mul(x2, x2), 2);
    const int32_t higher = tg_divide_by_pot(tg_doubling_high_mul(x4_over_4 + x3, one_third) + x2, 1);
    return exp_minus_eighth + tg_doubling_high_mul(x + higher, exp_minus_eighth);
}

/* exp of a Q5 value <= 0; result Q0. The last quarter by series, the multiple of 1/4 by factors exp(-2^k). */
static inline int32_t tg_exp_of_negative(int32_t value)
{
    static const int32_t factors[7] = {
        1672461947, /* exp(-1/4) */
        1302514674, /* exp(-1/2) */
        790015084, /* exp(-1) */
        290630308, /* exp(-2) */
        39332535, /* exp(-4) */
        720401, /* exp(-8) */
        242, /* exp(-16) */
    };
    const int32_t quarter = (int32_t)1 << 24;
    if (value == 0) {
        return INT32_MAX;
    }
    const int32_t last = (value & (quarter - 1)) - quarter;
    const int32_t remainder = last - value;
    int32_t result = tg_exp_of_last_quarter(last * 32);
    for (int32_t k = 0; k < 7; ++k) {
        if ((remainder >> (24 + k)) & 1) {
            result = tg_doubling_high_mul(result, factors[k]);
        }
    }
    return result;
}

/* 1 / (1 + x) of a Q0 value in [0, 1]; result Q0. Three Newton steps on half the denominator, in Q2. */
static inline int32_t tg_one_over_one_plus(int32_t value)
{
    const int32_t half = (int32_t)(((int64_t)value + INT32_MAX + 1) / 2);
    int32_t x = 1515870810 + tg_doubling_high_mul(half, -1010580540);
    for (int32_t step = 0; step < 3; ++step) {
        const int32_t error = ((int32_t)1 << 29) - tg_doubling_high_mul(half, x);
        x += tg_shift_left_saturating(tg_doubling_high_mul(x, error), 2);
    }
    return tg_shift_left_saturating(x, 1);
}

#endif

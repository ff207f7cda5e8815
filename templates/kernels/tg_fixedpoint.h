/* tinygen: fixed-point requantization of int8 kernels, bit for bit that of TFLite Micro.
 * docs/numerics.md is normative; tinygen/fixedpoint.py is the same in Python.
 * Generated code: it belongs to whoever generated it. */
#ifndef TG_FIXEDPOINT_H
#define TG_FIXEDPOINT_H

#include <stdint.h>

/* round(a * b / 2^31), halves as gemmlowp nudges them; b in [0, 2^31 - 1], so no overflow. */
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

#endif

/* tinygen: requantization of the 16x8 scheme (int16 activations, int8 weights), bit for bit that of TFLite Micro.
 * docs/numerics.md, "16x8", is normative; tinygen/fixedpoint.py is the same in Python.
 * Generated code: it belongs to whoever generated it. */
#ifndef TG_INT16_H
#define TG_INT16_H

#include "tg_fixedpoint.h"

/* 64-bit accumulator -> int16 output: acc * multiplier / 2^shift, halves up. multiplier: the reduced one, 15 bits;
 * shift in [8, 46]. |acc| < 2^47, and the result fits int32 (checked at compile time). */
static inline int16_t tg_requantize_wide(int64_t acc, int32_t multiplier, int32_t shift, int32_t low, int32_t high)
{
    const int64_t rounded = acc * multiplier + ((int64_t)1 << (shift - 1));
    return (int16_t)tg_clamp((int32_t)(rounded >> shift), low, high);
}

/* 32-bit value -> int16 output, by the full multiplier. */
static inline int16_t tg_requantize_s16(
    int32_t acc, int32_t multiplier, int32_t shift, int32_t zero_point, int32_t low, int32_t high)
{
    return (int16_t)tg_clamp(tg_multiply(acc, multiplier, shift) + zero_point, low, high);
}

/* Entry of a table of 513 at value / 128, interpolated: one entry per 128 inputs from -32768 on. */
static inline int32_t tg_interpolate(const int16_t *table, int32_t value)
{
    const int32_t index = 256 + (value >> 7);
    const int32_t slope = (int16_t)(table[index + 1] - table[index]);
    return table[index] + ((slope * (value & 127) + 64) >> 7);
}

/* Entry of the table of sigmoids at size / 2^bits, interpolated, with `bits` more bits; `beyond` behind its end. */
static inline int32_t tg_sigmoid_entry(const uint16_t *table, int32_t size, int32_t bits, int32_t beyond)
{
    const int32_t index = size >> bits;
    if (index >= 255) {
        return beyond;
    }
    const int32_t between = size & (((int32_t)1 << bits) - 1);
    return table[index] * ((int32_t)1 << bits) + between * ((int32_t)table[index + 1] - (int32_t)table[index]);
}

/* sigmoid, Q15, of x / 12,288. */
static inline int16_t tg_sigmoid_s16(const uint16_t *table, int32_t x)
{
    const int32_t entry = tg_sigmoid_entry(table, x < 0 ? -x : x, 9, 0x7FFF << 10);
    return (int16_t)((x >= 0 ? entry + 512 : 33554432 - entry + 511) >> 10);
}

/* tanh, Q15, of x / 12,288: 2 * sigmoid(2 * x) - 1. */
static inline int16_t tg_tanh_s16(const uint16_t *table, int32_t x)
{
    const int32_t entry = tg_sigmoid_entry(table, x < 0 ? -x : x, 8, 0xFFFF << 8);
    return (int16_t)((x >= 0 ? entry - 8388608 + 128 : 8388608 - entry + 127) >> 8);
}

#endif

/* tinygen: what kernels for cores with Helium (M-profile vector extension, Cortex-M55) are made of, and the same in C.
 * docs/kernels.md, "Helium". Generated code: it belongs to whoever generated it. */
#ifndef TG_MVE_H
#define TG_MVE_H

#include <stdint.h>
#include <string.h>

#include "tg_fixedpoint.h"

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#include <arm_mve.h>
#define TG_HAS_MVE 1
#else
#define TG_HAS_MVE 0
#endif

/* What all outputs of a layer share. */
struct tg_mve_output {
    int32_t zero_point;
    int32_t low;
    int32_t high;
    int32_t left; /* some channel shifts to the left */
};

#if TG_HAS_MVE
/* tg_multiply of four lanes. VQRDMULH is tg_doubling_high_mul but where both are -2^31; VRSHL rounds halves up, so
 * negative lanes that are shifted to the right lose 1 before: halves go away from zero. right: 0 or negative. */
static inline int32x4_t tg_mve_round(int32x4_t high, int32x4_t right)
{
    return vrshlq_s32(vaddq_s32(high, vshrq_n_s32(vandq_s32(high, right), 31)), right);
}

static inline int32x4_t tg_mve_multiply(int32x4_t x, int32x4_t multiplier, int32x4_t shift, int32_t left)
{
    const int32x4_t zero = vdupq_n_s32(0);
    if (!left) {
        return tg_mve_round(vqrdmulhq_s32(x, multiplier), shift);
    }
    const int32x4_t high = vqrdmulhq_s32(vshlq_s32(x, vmaxq_s32(shift, zero)), multiplier);
    return tg_mve_round(high, vminq_s32(shift, zero));
}

static inline int32x4_t tg_mve_finish(int32x4_t x, struct tg_mve_output o)
{
    return vminq_s32(vmaxq_s32(vaddq_n_s32(x, o.zero_point), vdupq_n_s32(o.low)), vdupq_n_s32(o.high));
}
#endif

/* n bytes. */
static inline int8_t *tg_mve_copy(int8_t *to, const int8_t *from, int32_t n)
{
#if TG_HAS_MVE
    for (int32_t left = n; left > 0; left -= 16, from += 16) {
        const mve_pred16_t p = vctp8q((uint32_t)left);
        vstrbq_p_s8(to + (n - left), vldrbq_z_s8(from, p), p);
    }
#else
    memcpy(to, from, (size_t)n);
#endif
    return to + n;
}

static inline int8_t *tg_mve_fill(int8_t *to, int32_t value, int32_t n)
{
#if TG_HAS_MVE
    const int8x16_t v = vdupq_n_s8((int8_t)value);
    for (int32_t left = n; left > 0; left -= 16) {
        vstrbq_p_s8(to + (n - left), v, vctp8q((uint32_t)left));
    }
#else
    memset(to, value, (size_t)n);
#endif
    return to + n;
}

/* Outputs of one column: `channels` of them. packed: per four channels biases, multipliers, shifts (positive: to the
 * left), then `blocks` times 16 weights of each channel. column: blocks * 16 bytes; where it ends before, weights are 0. */
static inline int8_t *tg_mve_outputs(const int8_t *column, const int32_t *packed, int32_t blocks, int32_t channels,
    struct tg_mve_output o, int8_t *output)
{
#if TG_HAS_MVE
    const int32_t whole = channels % 4 == 0;
#endif
    for (; channels > 0; channels -= 4, packed += 12 + 16 * blocks) {
        const int32_t count = channels < 4 ? channels : 4;
        const int8_t *w = (const int8_t *)(packed + 12);
        int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
#if TG_HAS_MVE
        const int8_t *x = column;
        for (int32_t i = 0; i < blocks; ++i, x += 16, w += 64) {
            __asm__("" : "+r"(w)); /* one pointer for all weights: gcc would make two */
            const int8x16_t values = vldrbq_s8(x);
            sum0 = vmladavaq_s8(sum0, values, vldrbq_s8(w));
            sum1 = vmladavaq_s8(sum1, values, vldrbq_s8(w + 16));
            sum2 = vmladavaq_s8(sum2, values, vldrbq_s8(w + 32));
            sum3 = vmladavaq_s8(sum3, values, vldrbq_s8(w + 48));
        }
        int32x4_t acc = vldrwq_s32(packed);
        acc = vaddq_s32(acc, vsetq_lane_s32(sum3, vsetq_lane_s32(sum2, vsetq_lane_s32(sum1,
            vsetq_lane_s32(sum0, vdupq_n_s32(0), 0), 1), 2), 3));
        acc = tg_mve_finish(tg_mve_multiply(acc, vldrwq_s32(packed + 4), vldrwq_s32(packed + 8), o.left), o);
        if (whole) {
            vstrbq_s32(output, acc);
        } else {
            vstrbq_p_s32(output, acc, vctp32q((uint32_t)count));
        }
#else
        for (int32_t i = 0; i < 16 * blocks; ++i) {
            const int8_t *const row = w + i / 16 * 64 + i % 16;
            sum0 += column[i] * row[0];
            sum1 += column[i] * row[16];
            sum2 += column[i] * row[32];
            sum3 += column[i] * row[48];
        }
        const int32_t sums[4] = {sum0, sum1, sum2, sum3};
        for (int32_t i = 0; i < count; ++i) {
            output[i] = tg_requantize(sums[i] + packed[i], packed[4 + i], packed[8 + i], o.zero_point, o.low, o.high);
        }
#endif
        output += count;
    }
    return output;
}

/* Depthwise outputs of one pixel. taps: `count` pointers to the pixels under the window. packed: per eight channels biases,
 * multipliers, shifts of the even ones, then of the odd ones (eight words each), then eight weights per tap. */
static inline int8_t *tg_mve_depthwise(const int8_t *const *taps, int32_t count, const int32_t *packed, int32_t channels,
    struct tg_mve_output o, int8_t *output)
{
    for (int32_t c = 0; c < channels; c += 8, packed += 24 + 2 * count) {
        const int8_t *w = (const int8_t *)(packed + 24);
#if TG_HAS_MVE
        const mve_pred16_t lanes = vctp16q((uint32_t)(channels - c));
        int32x4_t even = vldrwq_s32(packed), odd = vldrwq_s32(packed + 4);
        for (int32_t i = 0; i < count; ++i, w += 8) {
            const int16x8_t x = vldrbq_z_s16(taps[i] + c, lanes), weights = vldrbq_s16(w);
            even = vaddq_s32(even, vmullbq_int_s16(x, weights));
            odd = vaddq_s32(odd, vmulltq_int_s16(x, weights));
        }
        even = tg_mve_multiply(even, vldrwq_s32(packed + 8), vldrwq_s32(packed + 16), o.left);
        odd = tg_mve_multiply(odd, vldrwq_s32(packed + 12), vldrwq_s32(packed + 20), o.left);
        const int16x8_t both = vmovnbq_s32(vdupq_n_s16(0), tg_mve_finish(even, o));
        vstrbq_p_s16(output + c, vmovntq_s32(both, tg_mve_finish(odd, o)), lanes);
#else
        for (int32_t i = 0; i < 8 && c + i < channels; ++i) {
            const int32_t lane = i / 2 + i % 2 * 4;
            int32_t acc = packed[lane];
            for (int32_t tap = 0; tap < count; ++tap) {
                acc += taps[tap][c + i] * w[8 * tap + i];
            }
            output[c + i] = tg_requantize(acc, packed[8 + lane], packed[16 + lane], o.zero_point, o.low, o.high);
        }
#endif
    }
    return output + channels;
}

#endif

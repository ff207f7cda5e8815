/* tinygen: what kernels for cores without SIMD instructions are made of (Cortex-M0, M0+, M3; portable C elsewhere).
 * docs/kernels.md, "Plain cores". Generated code: it belongs to whoever generated it. */
#ifndef TG_PLAIN_H
#define TG_PLAIN_H

#include <stdint.h>
#include <string.h>

#include "tg_fixedpoint.h"

/* A function whose body is one assembler statement stands in its kernel's section, so that both are placed together.
 * Its arguments are in r0 to r3, which the compiler does not see. */
#ifndef TG_ASM_FUNCTION
#define TG_ASM_FUNCTION(section_name) __attribute__((naked, noinline, used, section(section_name))) static
#endif
#define TG_UNSEEN __attribute__((unused))

/* floor((a * b + 2^30) / 2^31), which is what tg_doubling_high_mul gives; |a| < 2^29, 0 <= b.
 * ARMv6-M multiplies to 32 bits only: a = 2^16 * ah + al with a signed low half, so that no partial sum leaves int32;
 * the low 16 bits of al * bl cannot reach the rounding. */
static inline int32_t tg_plain_high_mul(int32_t a, int32_t b)
{
#if defined(__thumb2__)
    return (int32_t)(((int64_t)a * (int64_t)b + ((int64_t)1 << 30)) >> 31);
#else
    const int32_t al = (int16_t)(uint16_t)((uint32_t)a & 0xFFFFU);
    const int32_t ah = (a - al) >> 16;
    const int32_t bl = b & 0xFFFF;
    const int32_t bh = b >> 16;
    const int32_t middle = ah * bl + al * bh + ((al * bl) >> 16);
    return 2 * (ah * bh) + ((middle + (1 << 14)) >> 15);
#endif
}

/* Accumulator -> int8: equals tg_requantize for |acc| < 2^29 and shifts to the right by 1 <= right <= 31. */
static inline int8_t tg_requantize_plain(
    int32_t acc, int32_t multiplier, int32_t right, int32_t zero_point, int32_t low, int32_t high)
{
    const int32_t product = tg_plain_high_mul(acc, multiplier);
    const int32_t half = (int32_t)((uint32_t)1 << (right - 1));
    return (int8_t)tg_clamp(((product - (product < 0 ? 1 : 0) + half) >> right) + zero_point, low, high);
}

/* n activations as unsigned bytes, 128 more each; returns their sum. */
static inline uint32_t tg_raise(uint8_t *to, const int8_t *from, int32_t n)
{
    uint32_t sum = 0;
    for (int32_t i = 0; i < n; ++i) {
        const uint32_t value = (uint32_t)((int32_t)from[i] + 128);
        to[i] = (uint8_t)value;
        sum += value;
    }
    return sum;
}

#endif

/* tinygen: the instructions of the DSP extension (Cortex-M4, M7, M33) that kernels are made of, and the same in C.
 * A name is the instruction's; two int16 lanes stand in one uint32_t. docs/kernels.md says how they are used.
 * Generated code: it belongs to whoever generated it. */
#ifndef TG_DSP_H
#define TG_DSP_H

#include <stdint.h>
#include <string.h>

#include "tg_fixedpoint.h"

#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define TG_HAS_DSP 1
#else
#define TG_HAS_DSP 0
#endif

/* A function whose body is one assembler statement stands in its kernel's section, so that both are placed together. */
#define TG_ASM_FUNCTION(section_name) __attribute__((naked, noinline, used, section(section_name))) static

/* One in C that shall stay a function. */
#if TG_HAS_DSP
#define TG_OWN_FUNCTION(section_name) __attribute__((noinline, section(section_name))) static
#else
#define TG_OWN_FUNCTION(section_name) static
#endif

/* What the inner functions of products work on (dsp_tile.j2): `count` steps of one or two neighbouring outputs.
 * x: activations under each row of the kernel; packed, end: the stream of weights (tinygen/ops/dsp_product.py). */
struct tg_tile {
    const int16_t *x[3];
    int8_t *out;
    const int32_t *packed;
    const int32_t *end;
    int32_t count;
};

/* Four bytes, or two int16, as one word; any address. */
static inline uint32_t tg_load_word(const void *address)
{
    uint32_t word;
    memcpy(&word, address, 4);
    return word;
}

static inline void tg_store_word(void *address, uint32_t word)
{
    memcpy(address, &word, 4);
}

static inline uint32_t tg_pack(int32_t low, int32_t high)
{
    return (uint32_t)(low & 0xFFFF) | ((uint32_t)high << 16);
}

static inline int32_t tg_low(uint32_t x)
{
    return (int32_t)(int16_t)(uint16_t)(x & 0xFFFFU);
}

static inline int32_t tg_high(uint32_t x)
{
    return (int32_t)(int16_t)(uint16_t)(x >> 16);
}

#if TG_HAS_DSP
#define TG_DSP_2(name, C)                                                                                              \
    static inline uint32_t tg_##name(uint32_t a, uint32_t b)                                                           \
    {                                                                                                                  \
        uint32_t result;                                                                                               \
        __asm__(#name " %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));                                                  \
        return result;                                                                                                 \
    }
#define TG_DSP_ACCUMULATE(name, C)                                                                                     \
    static inline int32_t tg_##name(uint32_t a, uint32_t b, int32_t accumulator)                                       \
    {                                                                                                                  \
        int32_t result;                                                                                                \
        __asm__(#name " %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(accumulator));                            \
        return result;                                                                                                 \
    }
#else
#define TG_DSP_2(name, C)                                                                                              \
    static inline uint32_t tg_##name(uint32_t a, uint32_t b)                                                           \
    {                                                                                                                  \
        return C;                                                                                                      \
    }
#define TG_DSP_ACCUMULATE(name, C)                                                                                     \
    static inline int32_t tg_##name(uint32_t a, uint32_t b, int32_t accumulator)                                       \
    {                                                                                                                  \
        return (int32_t)((uint32_t)accumulator + (uint32_t)(C));                                                       \
    }
#endif

/* accumulator + products of lanes, modulo 2^32. */
TG_DSP_ACCUMULATE(smlad, (uint32_t)(tg_low(a) * tg_low(b)) + (uint32_t)(tg_high(a) * tg_high(b)))
TG_DSP_ACCUMULATE(smlabb, tg_low(a) * tg_low(b))
TG_DSP_ACCUMULATE(smlabt, tg_low(a) * tg_high(b))
TG_DSP_ACCUMULATE(smlatb, tg_high(a) * tg_low(b))
TG_DSP_ACCUMULATE(smlatt, tg_high(a) * tg_high(b))

/* Lanes added, subtracted, modulo 2^16. */
TG_DSP_2(sadd16, tg_pack(tg_low(a) + tg_low(b), tg_high(a) + tg_high(b)))
TG_DSP_2(ssub16, tg_pack(tg_low(a) - tg_low(b), tg_high(a) - tg_high(b)))

/* Bytes 0 and 2 as int16 lanes. Bytes 1 and 3: of the word rotated by 8. */
static inline uint32_t tg_sxtb16(uint32_t x)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(x));
    return result;
#else
    return tg_pack((int8_t)(uint8_t)(x & 0xFFU), (int8_t)(uint8_t)((x >> 16) & 0xFFU));
#endif
}

static inline uint32_t tg_sxtb16_ror8(uint32_t x)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(x));
    return result;
#else
    return tg_pack((int8_t)(uint8_t)((x >> 8) & 0xFFU), (int8_t)(uint8_t)((x >> 24) & 0xFFU));
#endif
}

/* Four products of int8 weights and inputs that are split into even and odd bytes; modulo 2^32. */
static inline int32_t tg_split_smlad(const int8_t *weights, uint32_t even, uint32_t odd, int32_t accumulator)
{
    const uint32_t word = tg_load_word(weights);
    return tg_smlad(tg_sxtb16_ror8(word), odd, tg_smlad(tg_sxtb16(word), even, accumulator));
}

/* Bytes 0 and 2, 1 and 3, without sign, as int16 lanes. */
static inline uint32_t tg_uxtb16(uint32_t x)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("uxtb16 %0, %1" : "=r"(result) : "r"(x));
    return result;
#else
    return x & 0x00FF00FFU;
#endif
}

static inline uint32_t tg_uxtb16_ror8(uint32_t x)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(result) : "r"(x));
    return result;
#else
    return (x >> 8) & 0x00FF00FFU;
#endif
}

/* lower + 65536 * upper, a sum of two numbers that fit int16, -> int16 lanes. */
static inline uint32_t tg_lanes(uint32_t sum)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("and %0, %1, #0x8000\n\tadd %0, %1, %0, lsl #1" : "=&r"(result) : "r"(sum));
    return result;
#else
    return sum + ((sum & 0x8000U) << 1);
#endif
}

/* Low lane of a, low (bt) lane of b above it; high lane of a, high lane of b below it (tb): a pair in memory order. */
static inline uint32_t tg_pkhbt(uint32_t a, uint32_t b)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(a), "r"(b));
    return result;
#else
    return (a & 0xFFFFU) | (b << 16);
#endif
}

static inline uint32_t tg_pkhtb(uint32_t a, uint32_t b)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(a), "r"(b));
    return result;
#else
    return (a & 0xFFFF0000U) | (b >> 16);
#endif
}

/* (a * b + 2^31) >> 32. */
static inline int32_t tg_smmulr(int32_t a, int32_t b)
{
#if TG_HAS_DSP
    int32_t result;
    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
#else
    return (int32_t)(((int64_t)a * (int64_t)b + ((int64_t)1 << 31)) >> 32);
#endif
}

/* accumulator + (a * b + 2^31) >> 32. */
static inline int32_t tg_smmlar(int32_t a, int32_t b, int32_t accumulator)
{
#if TG_HAS_DSP
    int32_t result;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(accumulator));
    return result;
#else
    return accumulator + tg_smmulr(a, b);
#endif
}

/* result = x >> right, saturated to int8; right: a literal in 1 ... 31. */
#if TG_HAS_DSP
#define TG_SHIFT_AND_SATURATE8(result, x, right) __asm__("ssat %0, #8, %1, asr #" #right : "=r"(result) : "r"(x))
#else
#define TG_SHIFT_AND_SATURATE8(result, x, right) ((result) = tg_clamp((x) >> (right), -128, 127))
#endif

/* Bytes of a word as int8. */
static inline int32_t tg_byte0(uint32_t word)
{
    return (int8_t)(uint8_t)(word & 0xFFU);
}

static inline int32_t tg_byte1(uint32_t word)
{
    return (int8_t)(uint8_t)((word >> 8) & 0xFFU);
}

static inline int32_t tg_byte2(uint32_t word)
{
    return (int8_t)(uint8_t)((word >> 16) & 0xFFU);
}

static inline int32_t tg_byte3(uint32_t word)
{
    return (int8_t)(uint8_t)(word >> 24);
}

static inline int32_t tg_saturate8(int32_t x)
{
#if TG_HAS_DSP
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(x));
    return result;
#else
    return tg_clamp(x, -128, 127);
#endif
}

/* acc * multiplier * 2^(-31 - right), rounded as tg_multiply does, without a branch: |acc| < 2^30, right >= 1.
 * added = (1 << (right - 1)) plus anything that shall be added shifted. */
static inline int32_t tg_rounded(int32_t acc, int32_t multiplier, int32_t right, int32_t added)
{
    const int32_t high = tg_smmulr((int32_t)((uint32_t)acc << 1), multiplier);
    return (high + (high >> 31) + added) >> right;
}

/* Accumulator -> int8: equals tg_requantize. added = (1 << (right - 1)) + (zero_point << right). */
static inline int32_t tg_requantize_dsp(int32_t acc, int32_t multiplier, int32_t right, int32_t added)
{
    return tg_saturate8(tg_rounded(acc, multiplier, right, added));
}

/* n times the same int16; returns what follows. */
static inline int16_t *tg_fill(int16_t *to, int32_t value, int32_t n)
{
    for (; n > 0; --n) {
        *to++ = (int16_t)value;
    }
    return to;
}

/* x + the int16 lanes of bytes 0 and 2 (1 and 3) of bytes, modulo 2^16. */
static inline uint32_t tg_sxtab16(uint32_t x, uint32_t bytes)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2" : "=r"(result) : "r"(x), "r"(bytes));
    return result;
#else
    return tg_sadd16(x, tg_sxtb16(bytes));
#endif
}

static inline uint32_t tg_sxtab16_ror8(uint32_t x, uint32_t bytes)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(x), "r"(bytes));
    return result;
#else
    return tg_sadd16(x, tg_sxtb16_ror8(bytes));
#endif
}

/* Byte by byte the larger (smaller) of two int8. SEL reads the flags that SSUB8 sets: they stay together. */
static inline uint32_t tg_max4(uint32_t a, uint32_t b)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(result) : "r"(a), "r"(b) : "cc");
    return result;
#else
    uint32_t result = 0;
    for (int32_t shift = 0; shift < 32; shift += 8) {
        const uint32_t x = (a >> shift) & 0xFFU, y = (b >> shift) & 0xFFU;
        result |= ((int8_t)(uint8_t)x >= (int8_t)(uint8_t)y ? x : y) << shift;
    }
    return result;
#endif
}

static inline uint32_t tg_min4(uint32_t a, uint32_t b)
{
#if TG_HAS_DSP
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %2, %1" : "=&r"(result) : "r"(a), "r"(b) : "cc");
    return result;
#else
    return ~tg_max4(~a, ~b);
#endif
}

/* One pixel, n pixels `step` apart, added to four channels' sums in int16 lanes: at most 256 pixels fit. */
static inline void tg_sum_pixel(uint32_t *even, uint32_t *odd, const int8_t *from)
{
    const uint32_t word = tg_load_word(from);
    *even = tg_sxtab16(*even, word);
    *odd = tg_sxtab16_ror8(*odd, word);
}

static inline void tg_sum_pixels(uint32_t *even, uint32_t *odd, const int8_t *from, int32_t step, int32_t n)
{
    for (; n >= 4; n -= 4, from += 4 * step) {
        const uint32_t word0 = tg_load_word(from), word1 = tg_load_word(from + step);
        const uint32_t word2 = tg_load_word(from + 2 * step), word3 = tg_load_word(from + 3 * step);
        *even = tg_sxtab16(tg_sxtab16(tg_sxtab16(tg_sxtab16(*even, word0), word1), word2), word3);
        *odd = tg_sxtab16_ror8(tg_sxtab16_ror8(tg_sxtab16_ror8(tg_sxtab16_ror8(*odd, word0), word1), word2), word3);
    }
    for (; n > 0; --n, from += step) {
        tg_sum_pixel(even, odd, from);
    }
}

/* n times the same word, to an aligned address. */
static inline void tg_fill_words(void *to, uint32_t word, int32_t n)
{
    uint32_t *words = (uint32_t *)to;
    for (int32_t i = 0; i < n; ++i) {
        words[i] = word;
    }
}

/* n words to a lower address, where they may overlap themselves. */
static inline void tg_move_words(int16_t *to, const int16_t *from, int32_t n)
{
    for (; n >= 4; n -= 4, from += 8, to += 8) {
        const uint32_t word0 = tg_load_word(from), word1 = tg_load_word(from + 2);
        const uint32_t word2 = tg_load_word(from + 4), word3 = tg_load_word(from + 6);
        tg_store_word(to, word0);
        tg_store_word(to + 2, word1);
        tg_store_word(to + 4, word2);
        tg_store_word(to + 6, word3);
    }
    for (; n > 0; --n, from += 2, to += 2) {
        tg_store_word(to, tg_load_word(from));
    }
}

/* Accumulator, doubled already -> int8, as tg_requantize_dsp. */
static inline int32_t tg_requantize_doubled(int32_t doubled, int32_t multiplier, int32_t right, int32_t bias)
{
    return tg_saturate8(tg_smmlar(doubled, multiplier, bias + (doubled >> 31)) >> right);
}

/* Of an output channel: a pair of doubled weights, doubled bias, and what tg_requantize_doubled takes. */
struct tg_channel {
    uint32_t weights;
    int32_t bias;
    int32_t multiplier;
    int32_t right;
    int32_t rounding;
};

/* One statement: loads overlap as long as nothing stands between them. */
static inline struct tg_channel tg_load_channel(const int32_t *packed)
{
    struct tg_channel c;
#if TG_HAS_DSP
    __asm__("ldr %0, [%5]\n\tldr %1, [%5, #4]\n\tldr %2, [%5, #8]\n\tldr %3, [%5, #12]\n\tldr %4, [%5, #16]"
            : "=&r"(c.weights), "=&r"(c.bias), "=&r"(c.multiplier), "=&r"(c.right), "=&r"(c.rounding)
            : "r"(packed), "m"(*(const int32_t(*)[5])packed));
#else
    c.weights = (uint32_t)packed[0];
    c.bias = packed[1], c.multiplier = packed[2], c.right = packed[3], c.rounding = packed[4];
#endif
    return c;
}

/* Two pixels of four channels (bytes 0 and 2, 1 and 3 as lanes) -> a word of each plane. */
static inline void tg_store_pixels(
    int16_t *to, int32_t plane, uint32_t even1, uint32_t odd1, uint32_t even2, uint32_t odd2)
{
    tg_store_word(to, tg_pkhbt(even1, even2));
    tg_store_word(to + plane, tg_pkhbt(odd1, odd2));
    tg_store_word(to + 2 * plane, tg_pkhtb(even2, even1));
    tg_store_word(to + 3 * plane, tg_pkhtb(odd2, odd1));
}

static inline void tg_widen_pixels(int16_t *to, int32_t plane, const int8_t *from, int32_t step, int32_t dropped)
{
    const uint32_t first = tg_load_word(from) >> dropped, second = tg_load_word(from + step) >> dropped;
    tg_store_pixels(to, plane, tg_sxtb16(first), tg_sxtb16_ror8(first), tg_sxtb16(second), tg_sxtb16_ror8(second));
}

/* count pixels of four channels, `step` apart -> four planes of int16, `plane` apart, two pixels at a time. lead: `to` is
 * an odd element: `zero` (the zero_point in both lanes) goes before the first pixel, as behind the last one if need be.
 * dropped: so many low bits of every word belong to channels in front; as many planes at the end get anything. */
static inline void tg_widen_planes(int16_t *to, int32_t plane, const int8_t *from, int32_t step, int32_t count,
    int32_t lead, uint32_t zero, int32_t dropped)
{
    if (lead) {
        const uint32_t word = tg_load_word(from) >> dropped;
        tg_store_pixels(to - 1, plane, zero, zero, tg_sxtb16(word), tg_sxtb16_ror8(word));
        from += step, ++to, --count;
    }
    for (; count >= 4; count -= 4, from += 4 * step, to += 4) {
        tg_widen_pixels(to, plane, from, step, dropped);
        tg_widen_pixels(to + 2, plane, from + 2 * step, step, dropped);
    }
    if (count >= 2) {
        tg_widen_pixels(to, plane, from, step, dropped);
        from += 2 * step, to += 2, count -= 2;
    }
    if (count) {
        const uint32_t word = tg_load_word(from) >> dropped;
        tg_store_pixels(to, plane, tg_sxtb16(word), tg_sxtb16_ror8(word), zero, zero);
    }
}

/* The same of n channels, one after the other, as they are. */
static inline void tg_widen_channels(
    int16_t *to, int32_t plane, const int8_t *from, int32_t step, int32_t count, int32_t n)
{
    for (; n > 0; --n, to += plane, ++from) {
        for (int32_t i = 0; i < count; ++i) {
            to[i] = from[i * step];
        }
    }
}

/* n int8 -> int16 in the same order, from any address to an aligned one. */
static inline int16_t *tg_widen(int16_t *to, const int8_t *from, int32_t n)
{
    for (; n >= 4; n -= 4, from += 4, to += 4) {
        const uint32_t bytes = tg_load_word(from);
        const uint32_t even = tg_sxtb16(bytes), odd = tg_sxtb16_ror8(bytes);
        tg_store_word(to, tg_pkhbt(even, odd));
        tg_store_word(to + 2, tg_pkhtb(odd, even));
    }
    for (; n > 0; --n) {
        *to++ = *from++;
    }
    return to;
}

#endif

/* tinygen: what float32 kernels share. Single precision only; docs/numerics.md, "float32", is normative.
 * tinygen/ops/functions.py is the same in Python for the functions of one variable (docs/ops.md, "activation").
 * Generated code: it belongs to whoever generated it. */
#ifndef TG_FLOAT_H
#define TG_FLOAT_H

#include <math.h>
#include <stdint.h>

/* A kernel stays a function of its own, so that the linker script can place it and a profile can name it. */
#if defined(__GNUC__) && !defined(__clang__)
#define TG_KERNEL __attribute__((noinline, noclone)) static
#elif defined(__clang__)
#define TG_KERNEL __attribute__((noinline)) static
#else
#define TG_KERNEL static
#endif

/* An index limited to [low, high]. */
static inline int32_t tg_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : (x > high ? high : x);
}

static inline float tg_at_least(float x, float low)
{
    return x < low ? low : x;
}

static inline float tg_at_most(float x, float high)
{
    return x > high ? high : x;
}

/* sum + a * b, in one instruction with one rounding where the core has it. */
static inline float tg_multiply_add(float sum, float a, float b)
{
#ifdef __FP_FAST_FMAF
    return fmaf(a, b, sum);
#else
    return sum + a * b;
#endif
}

/* ---- functions of one variable */

static inline float tg_relu(float x, float negative_slope, float max_value, float threshold)
{
    return x <= threshold ? negative_slope * (x - threshold) : tg_at_most(tg_at_least(x, 0.0f), max_value);
}

static inline float tg_elu(float x, float alpha)
{
    return x > 0.0f ? x : alpha * expm1f(x);
}

static inline float tg_selu(float x)
{
    return 1.05070099f * tg_elu(x, 1.67326324f);
}

static inline float tg_celu(float x, float alpha)
{
    return x > 0.0f ? x : alpha * expm1f(x / alpha);
}

static inline float tg_gelu(float x, float approximate)
{
    if (approximate != 0.0f) {
        return 0.5f * x * (1.0f + tanhf(0.797884561f * (x + 0.044715f * x * x * x))); /* sqrt(2 / pi) */
    }
    return 0.5f * x * (1.0f + erff(x * 0.707106781f)); /* sqrt(1 / 2) */
}

static inline float tg_sigmoid(float x)
{
    const float power = expf(-fabsf(x)); /* never overflows */
    return x >= 0.0f ? 1.0f / (1.0f + power) : power / (1.0f + power);
}

static inline float tg_silu(float x)
{
    return x * tg_sigmoid(x);
}

static inline float tg_tanh(float x)
{
    return tanhf(x);
}

static inline float tg_softplus(float x)
{
    return tg_at_least(x, 0.0f) + log1pf(expf(-fabsf(x)));
}

static inline float tg_softsign(float x)
{
    return x / (1.0f + fabsf(x));
}

static inline float tg_exponential(float x)
{
    return expf(x);
}

static inline float tg_log_sigmoid(float x)
{
    return -tg_softplus(-x);
}

static inline float tg_mish(float x)
{
    return x * tanhf(tg_softplus(x));
}

static inline float tg_hard_sigmoid(float x)
{
    return tg_at_most(tg_at_least(x + 3.0f, 0.0f), 6.0f) / 6.0f;
}

static inline float tg_hard_silu(float x)
{
    return x * tg_hard_sigmoid(x);
}

static inline float tg_hard_tanh(float x)
{
    return tg_at_most(tg_at_least(x, -1.0f), 1.0f);
}

static inline float tg_hard_shrink(float x, float threshold)
{
    return fabsf(x) > threshold ? x : 0.0f;
}

static inline float tg_soft_shrink(float x, float threshold)
{
    const float size = tg_at_least(fabsf(x) - threshold, 0.0f);
    return x < 0.0f ? -size : size;
}

static inline float tg_tanh_shrink(float x)
{
    return x - tanhf(x);
}

static inline float tg_sparse_plus(float x)
{
    return x <= -1.0f ? 0.0f : (x >= 1.0f ? x : (x + 1.0f) * (x + 1.0f) / 4.0f);
}

static inline float tg_sparse_sigmoid(float x)
{
    return tg_at_most(tg_at_least((x + 1.0f) / 2.0f, 0.0f), 1.0f);
}

static inline float tg_squareplus(float x, float b)
{
    return (x + sqrtf(x * x + b)) / 2.0f;
}

static inline float tg_linear(float x, float factor, float offset)
{
    return x * factor + offset;
}

#endif

/* tinygen: runs models on the samples of the input block and prints their outputs; the host compares.
 * Generated code: it belongs to whoever generated it. */
#ifndef TG_HARNESS_H
#define TG_HARNESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One model: sizes in bytes of its inputs and outputs, and its library's functions. */
typedef struct {
    const char *name;
    uint32_t input_count;
    uint32_t output_count;
    const uint32_t *input_sizes;
    const uint32_t *output_sizes;
    int8_t *(*input)(void *arena, size_t index);
    const int8_t *(*output)(const void *arena, size_t index);
    uint32_t (*invoke)(void *arena, size_t arena_bytes);
{% if profiled %}
    uint32_t profile_steps; /* layers with timestamps; 0: none */
    uint32_t (*profile_ticks)(size_t age, size_t step);
{% endif %}
} tg_model;

/* Run every record of the input block, or of those that come over the console. Log lines: docs/emulators.md. */
void tg_harness_run(
    const char *run_id, const tg_model *models, uint32_t model_count, void *arena, size_t arena_bytes);

#ifdef __cplusplus
}
#endif

#endif

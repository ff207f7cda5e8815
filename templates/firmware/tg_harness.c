/* tinygen: the harness; see tg_harness.h.
 * Input block: words MAGIC, number of records; then per record: model, sample, inputs (each padded to 4 bytes).
 *
 * Whoever fills the block before the start (an emulator, a debugger) writes MAGIC. It is erased before the run, so that
 * a reset does not run old inputs again. Without it the inputs come over the console, block after block:
 *   board: READY <run id> <bytes of the block>   when it starts to wait, and for each '?' while it waits
 *   host:  frames of 269 bytes: 01, then little-endian words: offset, words in all (both count words), 64 words of the
 *          block from that offset, CRC-32 (as Ethernet's) of all words before. MAGIC's place is sent as 0.
 *   board: AT <offset>   after each frame: the one that it wants next. A damaged or unwanted frame changes nothing,
 *          offset 0 begins anew. After the last frame the block runs: the log's first line is the answer.
 * The host waits for each answer: a UART without FIFO loses nothing. All frames have one length: when a byte is lost the
 * host sends newlines until the board answers; between frames they mean nothing.
 * Generated code: it belongs to whoever generated it. */
#include "tg_harness.h"
#include "tg_port.h"
#include <string.h>

#define TG_MAGIC 0x31474E54U /* "TNG1" */
#define TG_BYTES_PER_LINE 64U
#define TG_FRAME_START 1
#define TG_FRAME_WORDS 64U
#define TG_CRC_POLYNOMIAL 0xEDB88320U
#define TG_CRC_RESIDUE 0xDEBB20E3U /* of what is followed by its own CRC */

/* " <number>" for each of the numbers. */
static void put_numbers(const uint32_t *numbers, uint32_t count)
{
    for (uint32_t i = 0; i < count; ++i) {
        tg_console_put(' ');
        tg_put_number(numbers[i]);
    }
}

static uint32_t padded(uint32_t bytes)
{
    return (bytes + 3U) & ~3U;
}

/* Words that the inputs of one record take. */
static uint32_t record_words(const tg_model *model)
{
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < model->input_count; ++i) {
        bytes += padded(model->input_sizes[i]);
    }
    return bytes / 4U;
}

static void fill_inputs(const tg_model *model, void *arena, const uint32_t *data)
{
    for (uint32_t i = 0; i < model->input_count; ++i) {
        memcpy(model->input(arena, i), data, model->input_sizes[i]);
        data += padded(model->input_sizes[i]) / 4U;
    }
}

/* OUT model sample output offset hex... */
static void put_output(uint32_t model, uint32_t sample, uint32_t output, const int8_t *data, uint32_t size)
{
    for (uint32_t offset = 0; offset < size; offset += TG_BYTES_PER_LINE) {
        const uint32_t numbers[4] = {model, sample, output, offset};
        tg_put_text("OUT");
        put_numbers(numbers, 4);
        tg_console_put(' ');
        for (uint32_t i = offset; i < size && i < offset + TG_BYTES_PER_LINE; ++i) {
            tg_put_hex((uint32_t)(uint8_t)data[i], 2);
        }
        tg_console_put('\n');
    }
}

{% if profiled %}
{% include "firmware/layer_ticks.c" %}

{% endif %}
static void run_record(
    const tg_model *model, uint32_t index, uint32_t sample, const uint32_t *data, void *arena, size_t arena_bytes)
{
    fill_inputs(model, arena, data);
    const uint32_t before = tg_mark();
    const uint32_t status = model->invoke(arena, arena_bytes);
    const uint32_t ticks = tg_mark() - before;
    const uint32_t numbers[4] = {index, sample, status, ticks};
    tg_put_text("SAMPLE");
    put_numbers(numbers, 4);
    tg_console_put('\n');
{% if profiled %}
    put_layer_ticks(model, index, sample, status);
{% endif %}
    for (uint32_t i = 0; status == 0U && i < model->output_count; ++i) {
        put_output(index, sample, i, model->output(arena, i), model->output_sizes[i]);
    }
}

/* Runs all records; returns why it stopped early, NULL when it did not. *done counts the records. */
static const char *run_records(
    const tg_model *models, uint32_t model_count, void *arena, size_t arena_bytes, uint32_t *done)
{
    const uint32_t *at = tg_input_begin();
    const uint32_t *const end = tg_input_end();
    const uint32_t count = at[1];
    at += 2;
    for (; *done < count; ++*done) {
        if (end - at < 2 || at[0] >= model_count) {
            return "bad-record";
        }
        const tg_model *const model = &models[at[0]];
        const uint32_t words = record_words(model);
        if ((uint32_t)(end - at) - 2U < words) {
            return "bad-record";
        }
        run_record(model, at[0], at[1], at + 2, arena, arena_bytes);
        at += 2U + words;
    }
    return NULL;
}

/* A little-endian word from the console; crc goes on over its bytes. */
static uint32_t get_word(uint32_t *crc)
{
    uint32_t word = 0;
    for (uint32_t i = 0; i < 32U; i += 8U) {
        const uint32_t byte = (uint32_t)tg_console_get() & 0xFFU;
        word |= byte << i;
        *crc ^= byte;
        for (uint32_t bit = 0; bit < 8U; ++bit) {
            *crc = (*crc >> 1) ^ (TG_CRC_POLYNOMIAL & (0U - (*crc & 1U)));
        }
    }
    return word;
}

/* Takes in a frame when `offset` is wanted; returns which one is wanted next. *total: words in all, as frames say. */
static uint32_t get_frame(uint32_t wanted, uint32_t *total)
{
    uint32_t *const block = tg_input_begin();
    const uint32_t words = (uint32_t)(tg_input_end() - block);
    uint32_t crc = 0xFFFFFFFFU;
    const uint32_t offset = get_word(&crc);
    const uint32_t all = get_word(&crc);
    const uint32_t to = offset == 0U ? 0U : wanted; /* never over words that were confirmed, whatever the frame says */
    for (uint32_t i = to; i < to + TG_FRAME_WORDS; ++i) {
        const uint32_t word = get_word(&crc);
        if (i < words) {
            block[i] = word;
        }
    }
    (void)get_word(&crc);
    if (crc != TG_CRC_RESIDUE || offset != to) {
        return to;
    }
    *total = all;
    return to + TG_FRAME_WORDS;
}

/* READY run_id bytes */
static void put_ready(const char *run_id)
{
    const uint32_t bytes = 4U * (uint32_t)(tg_input_end() - tg_input_begin());
    tg_put_text("READY ");
    tg_put_text(run_id);
    put_numbers(&bytes, 1);
    tg_console_put('\n');
}

/* Fills the block from the console; 0 when nothing will come. */
static uint32_t receive(const char *run_id)
{
    uint32_t wanted = 0;
    uint32_t total = UINT32_MAX;
    put_ready(run_id);
    while (wanted < total) {
        const int c = tg_console_get();
        if (c < 0) {
            return 0;
        }
        if (c == '?') {
            put_ready(run_id);
        }
        if (c == TG_FRAME_START) {
            wanted = get_frame(wanted, &total);
            if (wanted < total) {
                tg_put_text("AT");
                put_numbers(&wanted, 1);
                tg_console_put('\n');
            }
        }
    }
    return 1;
}

/* Runs the block and prints the log. */
static void run_block(
    const char *run_id, const tg_model *models, uint32_t model_count, void *arena, size_t arena_bytes)
{
    uint32_t done = 0;
    tg_put_text("TINYGEN 1 ");
    tg_put_text(run_id);
    tg_console_put('\n');
    const char *const problem = run_records(models, model_count, arena, arena_bytes, &done);
    const uint32_t stack[2] = {tg_stack_used(), tg_stack_size()};
    tg_put_text("STACK");
    put_numbers(stack, 2);
    tg_console_put('\n');
    if (problem != NULL) {
        tg_put_text("FAULT kind=");
        tg_put_text(problem);
    } else {
        tg_put_text("END");
        put_numbers(&done, 1);
    }
    tg_console_put('\n');
}

void tg_harness_run(
    const char *run_id, const tg_model *models, uint32_t model_count, void *arena, size_t arena_bytes)
{
    uint32_t *const block = tg_input_begin();
    if (tg_input_end() - block >= 2 && block[0] == TG_MAGIC) {
        block[0] = 0U;
        run_block(run_id, models, model_count, arena, arena_bytes);
        return;
    }
    while (receive(run_id) != 0U) {
        run_block(run_id, models, model_count, arena, arena_bytes);
    }
    tg_put_text("FAULT kind=no-inputs\n");
}

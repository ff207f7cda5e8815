/* tinygen: the harness; see tg_harness.h.
 * Input block: words MAGIC, number of records; then per record: model, sample, inputs (each padded to 4 bytes).
 * Generated code: it belongs to whoever generated it. */
#include "tg_harness.h"
#include "tg_port.h"
#include <string.h>

#define TG_MAGIC 0x31474E54U /* "TNG1" */
#define TG_BYTES_PER_LINE 64U

void tg_put_text(const char *text)
{
    while (*text != '\0') {
        tg_console_put(*text++);
    }
}

void tg_put_number(uint32_t value)
{
    char digits[10];
    uint32_t count = 0;
    do {
        digits[count++] = (char)('0' + (char)(value % 10U));
        value /= 10U;
    } while (value != 0U);
    while (count > 0U) {
        tg_console_put(digits[--count]);
    }
}

void tg_put_hex(uint32_t value, uint32_t digits)
{
    static const char alphabet[] = "0123456789abcdef";
    while (digits-- > 0U) {
        tg_console_put(alphabet[(value >> (4U * digits)) & 15U]);
    }
}

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
    if (end - at < 2 || at[0] != TG_MAGIC) {
        return "no-inputs";
    }
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

void tg_harness_run(
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

/* tinygen: the harness's machine is the development host: console = stdin and stdout, input block = the file named by
 * TG_INPUT_FILE, or an empty one of TG_BLOCK_WORDS.
 * Generated code: it belongs to whoever generated it. */
#include "tg_port.h"
#include <stdio.h>
#include <stdlib.h>

#define TG_BLOCK_WORDS 65536U

static uint32_t *block;
static size_t words;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(3);
}

/* Reads a file whole. */
static void load(const char *path)
{
    FILE *const file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        fail("cannot read TG_INPUT_FILE");
        return;
    }
    const long size = ftell(file);
    words = size > 0 ? (size_t)size / 4U : 0U;
    block = calloc(words + 1U, 4U);
    rewind(file);
    if (block == NULL || fread(block, 4U, words, file) != words) {
        fail("cannot load TG_INPUT_FILE");
    }
    fclose(file);
}

void tg_port_init(void)
{
    const char *const path = getenv("TG_INPUT_FILE");
    if (path != NULL) {
        load(path);
        return;
    }
    words = TG_BLOCK_WORDS;
    block = calloc(words, 4U);
    if (block == NULL) {
        fail("no memory for the input block");
    }
}

void tg_console_put(char c)
{
    putchar(c);
}

int tg_console_get(void)
{
    fflush(stdout);
    return getchar();
}

uint32_t tg_timer_read(void)
{
    return 0;
}

uint32_t tg_mark(void)
{
    return tg_timer_read();
}

uint32_t *tg_input_begin(void)
{
    return block;
}

const uint32_t *tg_input_end(void)
{
    return block + words;
}

uint32_t tg_stack_used(void)
{
    return 0;
}

uint32_t tg_stack_size(void)
{
    return 0;
}

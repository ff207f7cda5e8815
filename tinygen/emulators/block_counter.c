/* Counts the Thumb instructions of every basic block that Unicorn enters: block_counter.py compiles and installs it.
 * A Python hook costs about 2 us a block, this one a few ns. The first halfword of an instruction tells its length
 * (Armv7-M ARM, A5.1). The block at `mark` (the timer function)
 * is entered at both ends of a sample: the caller counts it once. */
#include <stdint.h>

typedef struct {
    const uint8_t *code; /* bytes at address `base`, `size` of them */
    uint64_t base;
    uint64_t size;
} tg_range;

typedef struct {
    const tg_range *ranges; /* where the image has code */
    uint64_t range_count;
    uint64_t mark;
    uint64_t mark_size; /* bytes of the block at `mark`, which is not counted */
    uint64_t count;
    uint64_t outside; /* blocks that lie in no range: the caller must refuse the count */
} tg_counter;

void tg_count_block(void *core, uint64_t address, uint32_t size, void *data)
{
    tg_counter *const counter = data;
    (void)core;
    if (address == counter->mark) {
        counter->mark_size = size;
        return;
    }
    const tg_range *range = counter->ranges;
    const tg_range *const end_of_ranges = range + counter->range_count;
    while (range < end_of_ranges && (address < range->base || address - range->base + size > range->size)) {
        ++range;
    }
    if (range == end_of_ranges) {
        ++counter->outside;
        return;
    }
    const uint8_t *at = range->code + (address - range->base);
    const uint8_t *const end = at + size;
    while (at < end) {
        at += at[1] >= 0xE8U ? 4 : 2;
        ++counter->count;
    }
}

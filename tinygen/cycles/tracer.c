/* Follows a run in Unicorn block by block and access by access: tracing.py compiles, installs and reads it.
 * Zero-wait cycles come from Python, once per pair of blocks; what memories add is memory.h's.
 * The same run is followed in several views, which differ in where things are: as linked, and as if nothing were pinned. */
#include "tracer.h"

static uint64_t tg_hash(uint64_t key)
{
    key *= UINT64_C(0x9E3779B97F4A7C15);
    return key ^ (key >> 29);
}

/* Marks are passed at the start and at the end of every sample: their number says where the run is. */
static tg_bucket *tg_bucket_of(tg_tracer *t)
{
    const uint32_t sample = t->marks / 2U;
    const uint32_t columns = t->step_count + 1U;
    if (t->marks == 0U) {
        return t->buckets;
    }
    if ((t->marks & 1U) == 0U || sample >= t->sample_count) {
        return t->buckets + 1U + (size_t)t->sample_count * columns; /* between samples, and after the last */
    }
    const uint32_t in_step = t->inside == 0U && t->step <= t->step_count;
    return t->buckets + 1U + (size_t)sample * columns + (in_step != 0U ? t->step : 0U);
}

static uint64_t tg_block_index(tg_tracer *t, void *core, uint64_t address, uint32_t size)
{
    const uint64_t key = address << 16 | size;
    uint64_t at = tg_hash(key) & (t->by_address_size - 1U);
    for (; t->by_address[at] != 0U; at = (at + 1U) & (t->by_address_size - 1U)) {
        const tg_block *const b = &t->blocks[t->by_address[at] - 1U];
        if (b->address == address && b->size == size) {
            return t->by_address[at];
        }
    }
    const uint64_t index = t->find(core, address, size, &t->blocks) + 1U;
    if (++t->block_count * 2U > t->by_address_size) {
        t->overflow = 1;
        return index;
    }
    t->by_address[at] = index;
    return index;
}

static uint32_t tg_edge_cycles(tg_tracer *t, uint64_t before, uint64_t block)
{
    const uint64_t key = before << 32 | block;
    uint64_t at = tg_hash(key) & (t->edges_size - 1U);
    for (; t->edges[at].key != 0U; at = (at + 1U) & (t->edges_size - 1U)) {
        if (t->edges[at].key == key) {
            return t->edges[at].cycles;
        }
    }
    const uint32_t cycles = t->weigh(before, block);
    if (++t->edge_count * 2U > t->edges_size) {
        t->overflow = 1;
        return cycles;
    }
    t->edges[at].key = key;
    t->edges[at].cycles = cycles;
    return cycles;
}

/* Index of the region that holds the address; region_count: none. guess: where the last one was. */
static uint32_t tg_region_of(const tg_tracer *t, const tg_view *view, uint64_t address, uint32_t guess)
{
    if (guess < t->region_count && address >= view->memory[guess].start && address < view->memory[guess].end) {
        return guess;
    }
    uint32_t i = 0;
    while (i < t->region_count && (address < view->memory[i].start || address >= view->memory[i].end)) {
        ++i;
    }
    return i;
}

/* Stalls of an access in one view; they stop the view's clock, too. */
static uint64_t tg_stall(
    tg_tracer *t, uint32_t view_index, uint32_t kind, uint64_t address, uint32_t size, uint32_t write, uint64_t now)
{
    tg_view *const view = &t->views[view_index];
    const uint32_t region = tg_region_of(t, view, address, t->last_region[view_index]);
    if (region == t->region_count) {
        return 0;
    }
    t->last_region[view_index] = region;
    tg_memory *const memory = &view->memory[region];
    if (memory->wait == 0U) {
        return 0;
    }
    uint64_t stalls = 0;
    for (uint64_t unit = address / memory->width; unit <= (address + size - 1U) / memory->width; ++unit) {
        const uint64_t start = unit * memory->width;
        const uint64_t words = start > address ? start / 4U - address / 4U : 0U; /* the core asks for one a cycle */
        stalls += tg_unit_stalls(memory, view->caches, kind, unit, write, now + view->stalls + stalls + words);
    }
    view->stalls += stalls;
    return stalls;
}

/* Fetches one view's next unit of the block's code. */
static void tg_fetch_unit(tg_tracer *t, const tg_block *block, uint32_t v)
{
    const uint32_t *const point = block->fetch[v] + 2U * t->fetched[v]++;
    const uint32_t width = t->views[v].memory[block->region[v]].width;
    const uint64_t at = (v == 0U ? block->address : block->moved) + point[0];
    const uint64_t stalls = tg_stall(t, v, TG_FETCH, at / width * width, 1U, 0U, t->begin + point[1]);
    t->bucket->stalls[v][TG_FETCH] += stalls;
    if (block->object >= 0) {
        t->objects[block->object].stalls[v] += stalls;
    }
}

/* What the current block fetches until a cycle of it. In the order of time: memory that serves a load now knows nothing
 * of what is fetched later. */
static void tg_fetch(tg_tracer *t, uint32_t until)
{
    const tg_block *const block = &t->blocks[t->current - 1U];
    for (uint32_t v = 0; v < t->view_count; ++v) {
        while (t->fetched[v] < block->fetches[v] && block->fetch[v][2U * t->fetched[v] + 1U] <= until) {
            tg_fetch_unit(t, block, v);
        }
    }
}

/* Which step runs: they are called from invoke in their order. */
static void tg_follow_steps(tg_tracer *t, uint64_t address)
{
    const uint32_t inside = address >= t->invoke && address < t->invoke_end;
    t->step += t->inside != 0U && inside == 0U;
    t->inside = inside;
}

/* The block that ends here was part of the start-up copy when it wrote to a pinned object. */
static void tg_follow_copy(tg_tracer *t)
{
    const uint64_t now = t->clock + t->views[0].stalls;
    if (t->copies != 0U) {
        t->copy_cycles += now - t->entered;
    }
    t->entered = now;
    t->copies = 0;
}

/* Unicorn's block hook. */
void tg_trace_block(void *core, uint64_t address, uint32_t size, void *data)
{
    tg_tracer *const t = data;
    const uint64_t before = t->current;
    if (before != 0U) {
        tg_fetch(t, UINT32_MAX);
    }
    tg_follow_copy(t);
    const uint64_t now = tg_block_index(t, core, address, size);
    tg_block *const block = &t->blocks[now - 1U];
    const uint32_t cycles = tg_edge_cycles(t, before, now);
    if (address == t->mark) {
        ++t->marks;
        t->step = t->inside = 0;
    }
    tg_follow_steps(t, address);
    t->bucket = tg_bucket_of(t);
    t->bucket->instructions += block->instructions;
    t->bucket->cycles += cycles;
    t->begin = t->clock + cycles - block->cycles;
    t->clock += cycles;
    t->current = now;
    t->access = t->fetched[0] = t->fetched[1] = 0;
}

static tg_object *tg_object_of(tg_tracer *t, uint64_t address)
{
    tg_object *const guess = t->objects + t->last_object;
    if (t->object_count != 0U && address >= guess->start && address < guess->end) {
        return guess;
    }
    uint32_t low = 0;
    uint32_t high = t->object_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2U;
        if (address >= t->objects[middle].end) {
            low = middle + 1U;
        } else {
            high = middle;
        }
    }
    if (low == t->object_count || address < t->objects[low].start) {
        return NULL;
    }
    t->last_object = low;
    return t->objects + low;
}

/* Unicorn forgets where it is in an IT block when a hook fires there: the next block would run conditionally. */
static void tg_clear_it(tg_tracer *t, void *core)
{
    uint32_t xpsr = 0;
    (void)t->read_register(core, t->xpsr, &xpsr);
    xpsr &= ~UINT32_C(0x0600FC00);
    (void)t->write_register(core, t->xpsr, &xpsr);
}

/* Armv7-M: an access that is not aligned takes two bus cycles, a word at an odd address three. */
static uint32_t tg_extra_cycles(uint64_t address, uint32_t size)
{
    const uint32_t misaligned = (uint32_t)(address & (size - 1U));
    if (misaligned == 0U || size > 4U) {
        return 0;
    }
    return size == 4U && (misaligned & 1U) != 0U ? 2U : 1U;
}

static void tg_stall_views(
    tg_tracer *t, tg_bucket *bucket, tg_object *object, uint64_t address, uint32_t size, uint32_t write, uint64_t now)
{
    for (uint32_t v = 0; v < t->view_count; ++v) {
        const uint64_t at = v == 0U || object == NULL ? address : address - object->start + object->elsewhere;
        const uint64_t stalls = tg_stall(t, v, TG_DATA, at, size, write, now);
        bucket->stalls[v][TG_DATA] += stalls;
        if (object != NULL) {
            object->stalls[v] += stalls;
        }
    }
}

/* Unicorn's hook of reads (type 16) and writes (17). Registers of devices are in no region: they only cost cycles. */
void tg_trace_access(void *core, int type, uint64_t address, int size, int64_t value, void *data)
{
    tg_tracer *const t = data;
    const uint32_t write = type == 17;
    const uint32_t bytes = (uint32_t)size;
    (void)value;
    if (t->current == 0U) {
        return;
    }
    const tg_block *const block = &t->blocks[t->current - 1U];
    const uint32_t last = block->accesses != 0U ? block->accesses - 1U : 0U;
    const uint32_t order = t->access < last ? t->access : last;
    const uint32_t start = block->accesses != 0U ? block->starts[order] : 0U;
    tg_fetch(t, start);
    t->access += bytes > 4U ? bytes / 4U : 1U;
    const uint32_t region = tg_region_of(t, &t->views[0], address, t->last_region[0]);
    if (region < t->region_count) {
        tg_bucket *const bucket = t->bucket;
        tg_object *const object = tg_object_of(t, address);
        const uint32_t extra = tg_extra_cycles(address, bytes);
        bucket->cycles += extra;
        t->clock += extra;
        *(write != 0U ? &bucket->written[region] : &bucket->read[region]) += bytes;
        if (object != NULL && write == 0U) {
            object->read += bytes;
        }
        t->copies |= object != NULL && write != 0U && object->elsewhere != object->start && t->marks == 0U;
        tg_stall_views(t, bucket, object, address, bytes, write, t->begin + start);
    }
    if (block->conditional != 0U) {
        tg_clear_it(t, core);
    }
}

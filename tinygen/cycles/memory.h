/* What memories, read buffers, caches and a prefetcher add to zero-wait cycles: the model behind `tinygen profile`.
 * docs/cycles.md has the rules. All times are cycles of the core; a unit is what a memory delivers in one access. */
#ifndef TG_MEMORY_H
#define TG_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum { TG_FETCH, TG_DATA };                        /* who asks */
enum { TG_FILL_ACCESS, TG_FILL_LINE, TG_FILL_BACKGROUND }; /* what a miss brings in: tinygen/boards.py, Cache.fill */

typedef struct {
    uint64_t line;  /* address / line, plus 1; 0: empty */
    uint64_t used;  /* when it was last used */
    uint64_t valid; /* a bit per unit that is there, or on its way */
    uint64_t dirty;
    uint64_t first, from; /* the unit that the last fill brought first, and when it is there (TG_FILL_LINE: all are) */
} tg_way;

typedef struct {
    uint32_t line, ways, sets, fill;
    uint32_t write_back; /* writes allocate; else they go past the cache */
    tg_way *content;     /* sets x ways */
} tg_cache;

typedef struct {
    uint64_t start, end;
    uint32_t width, wait, wait_next; /* bytes per access; wait states; those of an access that follows in order */
    int32_t cache[2];                /* of TG_FETCH and TG_DATA */
    uint32_t prefetch;               /* the unit behind a fetched one is read ahead */
    /* state */
    uint64_t free_at;                /* when the memory can start another access */
    uint64_t next_unit;              /* the one that would follow in order */
    uint64_t ahead, ahead_at;        /* unit read ahead, plus 1, and when it is there */
} tg_memory;

static tg_way *tg_find_way(const tg_cache *cache, uint64_t line)
{
    tg_way *const set = cache->content + (size_t)(line % cache->sets) * cache->ways;
    for (uint32_t i = 0; i < cache->ways; ++i) {
        if (set[i].line == line + 1U) {
            return &set[i];
        }
    }
    return NULL;
}

static tg_way *tg_oldest_way(const tg_cache *cache, uint64_t line)
{
    tg_way *const set = cache->content + (size_t)(line % cache->sets) * cache->ways;
    tg_way *oldest = set;
    for (uint32_t i = 1; i < cache->ways; ++i) {
        if (set[i].used < oldest->used) {
            oldest = &set[i];
        }
    }
    return oldest;
}

/* Cycles of one access of this unit. */
static uint64_t tg_access_cycles(const tg_memory *memory, uint64_t unit)
{
    return 1U + (unit == memory->next_unit ? memory->wait_next : memory->wait);
}

/* One access that begins as soon as the memory is free; returns when it ends. */
static uint64_t tg_access(tg_memory *memory, uint64_t unit, uint64_t now)
{
    const uint64_t start = now > memory->free_at ? now : memory->free_at;
    memory->free_at = start + tg_access_cycles(memory, unit);
    memory->next_unit = unit + 1U;
    return memory->free_at;
}

/* When a unit that a line holds is there: core and fill go on side by side behind a write, and in the background. */
static uint64_t tg_there_at(const tg_memory *memory, const tg_cache *cache, const tg_way *way, uint64_t index)
{
    const uint64_t units = cache->line / memory->width;
    const uint64_t order = (index + units - way->first) % units;
    if (cache->fill == TG_FILL_BACKGROUND) {
        return way->from + order * (1U + memory->wait_next);
    }
    return cache->fill == TG_FILL_LINE || order == 0U ? way->from : 0U;
}

/* Brings the missing unit in (and the rest of the line, as the cache fills); returns when the core can go on. */
static uint64_t tg_fill(tg_memory *memory, tg_cache *cache, tg_way *way, uint64_t line, uint64_t unit, uint64_t now)
{
    const uint32_t units = cache->line / memory->width;
    way->first = unit % units;
    way->from = tg_access(memory, unit, now);
    if (cache->fill == TG_FILL_ACCESS) {
        way->valid |= UINT64_C(1) << way->first;
        return way->from;
    }
    const uint64_t rest = (uint64_t)(units - 1U) * (1U + memory->wait_next);
    way->valid = units == 64U ? ~UINT64_C(0) : (UINT64_C(1) << units) - 1U;
    memory->free_at = way->from + rest;
    memory->next_unit = (line + 1U) * units;
    if (cache->fill == TG_FILL_LINE) {
        way->from = memory->free_at;
    }
    return way->from;
}

/* The way for a line that is not there: its old content, when written to, goes back to memory first. */
static tg_way *tg_replace(tg_memory *memory, tg_cache *cache, uint64_t line, uint64_t now)
{
    tg_way *const way = tg_oldest_way(cache, line);
    if (way->line != 0U && way->dirty != 0U) {
        const uint64_t start = now > memory->free_at ? now : memory->free_at;
        memory->free_at = start + (uint64_t)(cache->line / memory->width) * (1U + memory->wait_next);
    }
    way->line = line + 1U;
    way->valid = way->dirty = way->first = way->from = 0;
    return way;
}

/* A fetch that missed makes the memory read on, unless what follows is there already. */
static void tg_prefetch(tg_memory *memory, const tg_cache *cache, uint64_t unit, uint64_t now)
{
    const uint32_t units = cache->line / memory->width;
    const uint64_t next = cache->fill == TG_FILL_ACCESS ? unit + 1U : (unit / units + 1U) * units;
    const tg_way *const known = tg_find_way(cache, next / units);
    if (known == NULL || (known->valid >> (next % units) & 1U) == 0U) {
        memory->ahead = next + 1U;
        memory->ahead_at = tg_access(memory, next, now);
    }
}

/* Cycles that the core waits, at time `now`, for what it reads of a unit; `there`: when that unit can be had. */
static uint64_t tg_wait(uint64_t there, uint64_t now)
{
    return there > now + 1U ? there - now - 1U : 0U;
}

/* A read, or a write that allocates, of a unit that the cache does not hold. */
static uint64_t tg_miss(
    tg_memory *memory, tg_cache *cache, uint32_t kind, uint64_t unit, uint32_t write, uint64_t now)
{
    const uint32_t units = cache->line / memory->width;
    const uint64_t line = unit / units;
    tg_way *way = tg_find_way(cache, line);
    if (way == NULL) {
        way = tg_replace(memory, cache, line, now);
    }
    way->used = now;
    way->dirty |= write;
    uint64_t there;
    if (kind == TG_FETCH && memory->ahead == unit + 1U) {
        there = memory->ahead_at;
        way->valid |= UINT64_C(1) << (unit % units);
    } else {
        there = tg_fill(memory, cache, way, line, unit, now);
    }
    if (kind == TG_FETCH && memory->prefetch != 0U) {
        tg_prefetch(memory, cache, unit, there > now ? there : now);
    }
    return write != 0U ? 0U : tg_wait(there, now);
}

/* Stall cycles of one unit's access at time `now`. Writes wait for nothing: a write buffer takes them. */
static uint64_t tg_unit_stalls(
    tg_memory *memory, tg_cache *caches, uint32_t kind, uint64_t unit, uint32_t write, uint64_t now)
{
    if (memory->cache[kind] < 0) {
        const uint64_t there = tg_access(memory, unit, now);
        return write != 0U ? 0U : tg_wait(there, now);
    }
    tg_cache *const cache = &caches[memory->cache[kind]];
    const uint32_t units = cache->line / memory->width;
    tg_way *const way = tg_find_way(cache, unit / units);
    const uint32_t hit = way != NULL && (way->valid >> (unit % units) & 1U) != 0U;
    if (write != 0U && cache->write_back == 0U) {
        (void)tg_access(memory, unit, now); /* past the cache, whose line stays right */
        return 0;
    }
    if (!hit) {
        return tg_miss(memory, cache, kind, unit, write, now);
    }
    way->used = now;
    way->dirty |= write;
    return write != 0U ? 0U : tg_wait(tg_there_at(memory, cache, way, unit % units), now);
}

#endif

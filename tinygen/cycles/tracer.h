/* The structures of tracer.c. native.py describes them to Python: both change together. */
#ifndef TG_TRACER_H
#define TG_TRACER_H

#include "memory.h"

enum { TG_VIEWS = 2, TG_REGIONS = 16 };

typedef struct {
    uint64_t instructions, cycles;                    /* zero-wait */
    uint64_t stalls[TG_VIEWS][2];                     /* of TG_FETCH and TG_DATA */
    uint64_t read[TG_REGIONS], written[TG_REGIONS];   /* bytes of data, as linked */
} tg_bucket;

typedef struct {
    uint64_t start, end; /* addresses as linked */
    uint64_t elsewhere;  /* where the object is in the second view */
    uint64_t read, stalls[TG_VIEWS];
} tg_object;

typedef struct {
    tg_memory memory[TG_REGIONS];
    tg_cache *caches;
    uint64_t stalls;
} tg_view;

/* What Python says of a block, once. starts: cycle, from the block's own beginning, of each of its accesses. */
typedef struct {
    uint64_t address;
    uint32_t size, instructions, cycles, accesses, conditional, fetches[TG_VIEWS];
    const uint32_t *starts;
    const uint32_t *fetch[TG_VIEWS]; /* pairs: offset from the block's address, cycle */
    int32_t region[TG_VIEWS];        /* of its code; -1: without wait states */
    int32_t object;                  /* its function, -1 for none */
    uint64_t moved;                  /* its address in the second view */
} tg_block;

typedef struct {
    uint64_t key; /* indices of both blocks, plus 1; 0: empty */
    uint32_t cycles;
} tg_edge;

typedef struct {
    tg_view views[TG_VIEWS];
    uint32_t view_count, region_count, object_count, step_count, sample_count;
    tg_object *objects; /* sorted by address, disjoint */
    tg_bucket *buckets; /* start-up; then per sample: outside of the kernels, and one per step */
    uint64_t mark, invoke, invoke_end;
    uint64_t (*find)(void *core, uint64_t address, uint32_t size, tg_block **blocks); /* index of a new block */
    uint32_t (*weigh)(uint64_t before, uint64_t block);                               /* cycles of a new pair */
    int (*read_register)(void *core, int id, void *value);
    int (*write_register)(void *core, int id, const void *value);
    int xpsr;
    /* state */
    tg_block *blocks;
    uint64_t *by_address; /* open addressing: block index plus 1 */
    tg_edge *edges;
    uint64_t by_address_size, edges_size; /* powers of two */
    uint64_t edge_count, block_count;
    uint64_t current, clock, begin; /* block index plus 1; zero-wait cycles until now; when the block began */
    uint32_t access, marks, step, inside, last_object, last_region[TG_VIEWS];
    uint64_t overflow;
    uint64_t entered; /* time, with stalls, at which the block began */
    uint32_t copies;  /* the block wrote to a pinned object */
    uint64_t copy_cycles; /* all of those blocks before the first sample */
    uint32_t fetched[TG_VIEWS]; /* fetches of the block that are done */
    tg_bucket *bucket;          /* that the block counts for */
} tg_tracer;

#endif

"""Planted defects in the measure itself: timing rules, memory model, following a run, advice."""

from tests.mutants.runner import Defect

BY_HAND = "tests/cycles/test_timing.py::test_cycles_are_those_computed_by_hand"
MEMORY = "tests/cycles/test_memory.py"
TRACING = "tests/cycles/test_tracing.py"

CYCLES: tuple[Defect, ...] = (
    # ---- timing
    Defect(
        "timing: loads in a row do not overlap",
        "tinygen/cycles/pipeline.py",
        "behind_load = before.kind is Kind.LOAD and not before.sets_pc",
        "behind_load = False",
        f"{BY_HAND}[m4-loads back to back]",
    ),
    Defect(
        "timing: a load overlaps with the one that loads its address",
        "tinygen/cycles/pipeline.py",
        "cycles = cycles if before.writes & this.address else timing.load_behind_load",
        "cycles = timing.load_behind_load",
        f"{BY_HAND}[m4-load at an address just loaded]",
    ),
    Defect(
        "timing: taken branches do not refill the pipeline",
        "tinygen/cycles/pipeline.py",
        "if last.sets_pc else timing.taken.get(last.kind, 0)",
        "if last.sets_pc else 0",
        f"{BY_HAND}[m4-loop of 2]",
    ),
    Defect(
        "timing: an access across two words takes no longer",
        "tinygen/cycles/tracer.c",
        "return size == 4U && (misaligned & 1U) != 0U ? 2U : 1U;",
        "return 0U;",
        f"{BY_HAND}[m4-word at a halfword]",
    ),
    Defect(
        "decoding: what IT covers is taken for unconditional",
        "tinygen/cycles/instructions.py",
        "found.append(replace(instruction, unconditional=False) if conditional else instruction)",
        "found.append(instruction)",
        "tests/cycles/test_instructions.py::test_what_it_covers_is_conditional",
    ),
    Defect(
        "decoding: the base register of a load multiple is counted as loaded",
        "tinygen/cycles/instructions.py",
        'return registers - (0 if name.startswith(("push", "pop")) else 1)',
        "return registers",
        "tests/cycles/test_instructions.py::test_encodings",
    ),
    # ---- memory
    Defect(
        "cache: the line that came first goes, however often it is used",
        "tinygen/cycles/memory.h",
        "    }\n    way->used = now;\n    way->dirty |= write;\n    return",
        "    }\n    way->dirty |= write;\n    return",
        f"{MEMORY}::test_the_line_that_was_used_last_stays",
    ),
    Defect(
        "cache: the line that was used last goes",
        "tinygen/cycles/memory.h",
        "if (set[i].used < oldest->used) {",
        "if (set[i].used > oldest->used) {",
        f"{MEMORY}::test_what_fits_stays",
    ),
    Defect(
        "cache: a fill in the background begins with the line's first bytes",
        "tinygen/cycles/memory.h",
        "const uint64_t order = (index + units - way->first) % units;",
        "const uint64_t order = index;",
        f"{MEMORY}::test_fill_background_wraps_behind_the_first_unit",
    ),
    Defect(
        "cache: clean lines are written back, too",
        "tinygen/cycles/memory.h",
        "if (way->line != 0U && way->dirty != 0U) {",
        "if (way->line != 0U) {",
        "tests/cycles/test_second_model.py::test_equals_a_model_written_from_the_rules",
    ),
    Defect(
        "prefetch: reading ahead begins before the fetch that causes it",
        "tinygen/cycles/memory.h",
        "tg_prefetch(memory, cache, unit, there > now ? there : now);",
        "tg_prefetch(memory, cache, unit, there);",
        f"{MEMORY}::test_a_jump_waits_for_what_is_read_ahead_in_vain",
    ),
    # ---- following a run
    Defect(
        "trace: a whole block is fetched before its first load",
        "tinygen/cycles/tracer.c",
        "tg_fetch(t, start);",
        "tg_fetch(t, UINT32_MAX);",
        "tests/cycles/test_memory_images.py::test_a_load_does_not_wait_for_what_is_fetched_later",
    ),
    Defect(
        "trace: Unicorn keeps the IT state behind a hook",
        "tinygen/cycles/tracer.c",
        "xpsr &= ~UINT32_C(0x0600FC00);",
        "xpsr &= UINT32_MAX;",
        f"{TRACING}::test_hooks_inside_of_it_blocks_change_no_result",
    ),
    Defect(
        "trace: every kernel counts for the step before it",
        "tinygen/cycles/tracer.c",
        "(in_step != 0U ? t->step : 0U)",
        "(in_step != 0U && t->step != 0U ? t->step - 1U : 0U)",
        f"{TRACING}::test_layers_that_share_a_function_get_their_own_counts",
    ),
    Defect(
        "trace: pinned arrays are where they are in the unpinned view, too",
        "tinygen/cycles/tracer.c",
        "object == NULL ? address : address - object->start + object->elsewhere;",
        "object == NULL ? address : address;",
        f"{TRACING}::test_objects_say_where_they_are_and_wait_no_more_in_sram",
    ),
    Defect(
        "advice: what is to be pinned shares one free stretch",
        "tinygen/advice.py",
        "            free[region] -= candidate.bytes\n",
        "",
        "tests/test_advice.py::test_advice_to_pin_keeps_what_the_application_needs",
    ),
)

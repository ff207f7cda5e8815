"""The timing rules as a table: sequences of instructions and their cycles, computed by hand.

Notation of the comments: 2+1 are the cycles of the instructions in turn; a taken branch is 1+2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

POINTERS = "ldr r1, =POINTER; mov r2, r1; mov r3, r1; movs r4, #0; movs r5, #4; movs r6, #3; movs r7, #100"
"""r1, r2, r3: an aligned address in SRAM; r4..r7: 0, 4, 3, 100. Flags: Z clear."""
STACKED = "; ldr r0, =1f + 1; push {r0}"
"""The address of label 1 on the stack."""


@dataclass(frozen=True)
class Case:
    """code: what is measured, cycles: by hand, setup: behind POINTERS."""

    name: str
    code: str
    cycles: int
    setup: str = ""


LOADS = (
    Case("load", "ldr r0, [r1]", 2),
    Case("loads back to back", "ldr r0, [r1]; ldr r4, [r2]; ldr r5, [r3]", 4),  # 2+1+1
    Case("load at an address just loaded", "ldr r0, [r1]; ldr r4, [r0]", 4, "; str r1, [r1]"),  # 2+2
    Case(
        "a load between breaks the chain", "ldr r0, [r1]; ldr r4, [r2]; ldr r5, [r0]", 4, "; str r1, [r1]"
    ),  # 2+1+1
    Case(
        "byte and halfword loads pipeline, too", "ldrb r0, [r1]; ldrsh r4, [r2, r5]; ldrb r6, [r3]", 4
    ),  # 2+1+1
    Case("something between loads ends the overlap", "ldr r0, [r1]; nop; ldr r4, [r2]", 5),  # 2+1+2
    Case("post-indexed loads of one pointer wait for it", "ldr r0, [r1], #4; ldr r4, [r1], #4", 4),  # 2+2
    Case("post-indexed loads of two pointers", "ldr r0, [r1], #4; ldr r4, [r2], #4", 3),  # 2+1
    Case("literal", "ldr r0, 1f; b 2f; .balign 4; 1: .word 1; 2:", 5),  # 2, b 1+2
    Case("store immediate", "str r4, [r1]", 1),
    Case("stores immediate", "str r4, [r1]; strb r4, [r2, #1]; strh r4, [r3, #2]", 3),  # 1+1+1
    Case("store register offset", "str r4, [r1, r5]", 2),
    Case("store register offset behind a load", "ldr r0, [r1]; str r0, [r2, r5]", 3),  # 2+1
    Case("store immediate behind a load", "ldr r0, [r1]; str r0, [r2]", 3),  # 2+1
    Case("load behind a store", "str r4, [r1]; ldr r0, [r2]", 3),  # 1+2
    Case("load of two", "ldrd r4, r5, [r1]", 3),  # 1+2
    Case("store of two", "strd r4, r5, [r1]", 3),  # 1+2
    Case("loads of two do not overlap", "ldrd r4, r5, [r1]; ldr r0, [r2]; ldrd r6, r7, [r3]", 8),  # 3+2+3
    Case("load multiple", "ldm r1, {r4-r7}", 5),  # 1+4
    Case("load multiple with writeback", "ldm r1!, {r4, r5}", 3),  # 1+2
    Case("store multiple", "stm r1!, {r4-r7}", 5),  # 1+4
    Case("push and pop", "push {r4-r6}; pop {r4-r6}", 8),  # 1+3, 1+3
    Case("pop into PC", "pop {pc}; 1:", 4, STACKED),  # 1+1, refill 2
    Case("load into PC", "ldr pc, [sp]; 1:", 4, STACKED),  # 2, refill 2
)
ADDRESSES = (
    Case("address just computed", "adds r1, r1, #4; ldr r0, [r1]", 4),  # 1+2+1
    Case("address computed two before", "adds r1, r1, #4; nop; ldr r0, [r2]", 4),  # 1+1+2
    Case("index just computed", "adds r5, r5, #4; ldr r0, [r1, r5]", 4),  # 1+2+1
    Case("address of a store just computed", "adds r1, r1, #4; str r0, [r1]", 3),  # 1+1+1
    Case("value of a store just computed", "adds r0, r5, #4; str r0, [r1]", 2),  # 1+1
    Case("address just multiplied", "mul r5, r5, r6; ldr r0, [r1, r5]", 4),  # 1+2+1
)
BRANCHES = (
    Case("not taken", "beq 1f; nop; 1:", 2),  # 1+1
    Case("taken", "bne 1f; nop; 1:", 3),  # 1+2
    Case("always", "b 1f; nop; 1:", 3),  # 1+2
    Case("to what follows", "b 1f; 1:", 3),  # 1+2: taken all the same
    Case("cbz not taken", "cbz r5, 1f; nop; 1:", 2),  # 1+1
    Case("cbz taken", "cbz r4, 1f; nop; 1:", 3),  # 1+2
    Case("call", "bl 1f; nop; 1:", 3),  # 1+2
    Case("branch to a register", "bx r0; nop; 1:", 3, "; ldr r0, =1f + 1"),  # 1+2
    Case("call of a register", "blx r0; nop; 1:", 3, "; ldr r0, =1f + 1"),  # 1+2
    Case("move into PC", "mov pc, r0; nop; 1:", 3, "; ldr r0, =1f + 1"),  # 1+2
    Case("table branch", "tbb [pc, r4]; 1: .byte (2f - 1b) / 2, 0; nop; 2:", 4),  # 2+2
    Case(
        "table branch, index just computed",
        "adds r4, #0; tbb [pc, r4]; 1: .byte (2f - 1b) / 2, 0; nop; 2:",
        6,
    ),
)  # the last: 1, 2+1+2
CONDITIONAL = (
    Case("IT executed", "it ne; addne r0, r4, #1", 2),  # 1+1
    Case("IT not executed", "it eq; addeq r0, r4, #1", 2),  # 1+1
    Case("IT of four", "itete ne; movne r0, #1; moveq r0, #2; addne r4, #1; addeq r4, #2", 5),  # 1, 4 x 1
    Case("conditional return, not taken", "it eq; bxeq r0; 1: nop", 3, "; ldr r0, =1f + 1"),  # 1+1, 1
    Case("conditional return, taken", "it ne; bxne r0; nop; 1:", 4, "; ldr r0, =1f + 1"),  # 1, 1+2
    Case("conditional pop into PC, not taken", "it eq; popeq {pc}; 1: nop", 4, STACKED),  # 1, 1+1, 1
    Case("conditional pop into PC, taken", "it ne; popne {pc}; nop; 1:", 5, STACKED),  # 1, 1+1+2
)
MULTIPLIES = (
    Case("multiply", "mul r0, r5, r6; mul r0, r0, r6", 2),
    Case("multiply-accumulate", "mla r0, r5, r6, r4; mla r0, r5, r6, r0; mls r0, r5, r6, r0", 3),
    Case("long multiply", "smull r4, r5, r6, r7; umull r4, r5, r6, r7", 2),
    Case("long multiply-accumulate", "smlal r4, r5, r6, r7; umlal r4, r5, r6, r7", 2),
)
DSP = (
    Case("pairs", "smlad r0, r5, r6, r0; smlad r0, r5, r6, r0; smlald r4, r5, r6, r7", 3),
    Case("halfwords", "smulbb r0, r5, r6; smlabt r0, r5, r6, r0; smuad r0, r5, r6; smlawb r0, r5, r6, r0", 4),
    Case("high halves", "smmulr r0, r5, r6; smmla r0, r5, r6, r0", 2),
    Case(
        "packing and saturating",
        "sxtb16 r0, r5; pkhbt r0, r5, r6; ssat r0, #8, r5; qadd r0, r5, r6; uxtab r0, r5, r6",
        5,
    ),
)
DIVIDES = (
    Case("signed", "sdiv r0, r7, r6", 7),
    Case("unsigned", "udiv r0, r7, r6; udiv r0, r0, r6", 14),
)  # 7+7
MISALIGNED = (
    Case("word at a halfword", "ldr r0, [r1, #2]", 3),  # 2+1
    Case("word at an odd address", "ldr r0, [r1, #1]", 4),  # 2+2
    Case("word at three", "ldr r0, [r1, #3]", 4),  # 2+2
    Case("halfword at an odd address", "ldrh r0, [r1, #1]", 3),  # 2+1
    Case("halfword at two", "ldrh r0, [r1, #2]", 2),
    Case("byte at an odd address", "ldrb r0, [r1, #1]", 2),
    Case("store of a word at a halfword", "str r0, [r1, #2]", 2),  # 1+1
    Case("words across", "ldr r0, [r1, #2]; ldr r4, [r2, #6]", 5),  # 2+1, 1+1
)
FLOATING = (
    Case("add, multiply", "vadd.f32 s0, s1, s2; vmul.f32 s3, s1, s2; vsub.f32 s4, s1, s2", 3),
    Case("result used at once", "vadd.f32 s0, s1, s2; vmul.f32 s3, s0, s2", 3),  # 1+1+1
    Case("result used one later", "vadd.f32 s0, s1, s2; nop; vmul.f32 s3, s0, s2", 3),  # 1+1+1
    Case("floating multiply-accumulate", "vmla.f32 s0, s1, s2; vfma.f32 s3, s1, s2", 6),  # 3+3
    Case("accumulate chain", "vmla.f32 s0, s1, s2; vmla.f32 s0, s1, s2", 7),  # 3+3+1
    Case("divide", "vdiv.f32 s0, s1, s2", 14),
    Case("square root", "vsqrt.f32 s0, s1", 14),
    Case("moves do not wait", "vmov r0, s1; vmov s2, r0; vadd.f32 s3, s2, s2", 3),
    Case("result stored at once", "vadd.f32 s0, s1, s2; vstr s0, [r1]", 4),  # 1, 1+1+1
    Case("floating load", "vldr s0, [r1]", 2),  # 1+1
    Case("loads do not overlap", "vldr s0, [r1]; vldr s1, [r2]", 4),  # 2+2
    Case("load of two words", "vldr d0, [r1]", 3),  # 1+2
    Case("floating load multiple", "vldm r1, {s0-s7}", 9),  # 1+8
    Case("floating push and pop", "vpush {d8-d9}; vpop {d8-d9}", 10),  # 1+4, 1+4
)


def loops(first: int, body: int) -> tuple[Case, ...]:
    """first: of movs; body: of a round whose branch is not taken; n - 1 times it is, for 2 more."""
    code = "movs r4, #{n}; 1: ldr r0, [r1]; ldr r6, [r2]; adds r7, r0, r6; subs r4, #1; bne 1b"
    return tuple(Case(f"loop of {n}", code.format(n=n), first + n * body + (n - 1) * 2) for n in range(1, 6))


LOOPS = loops(1, 2 + 1 + 1 + 1 + 1)
M4 = (
    *LOADS,
    *ADDRESSES,
    *BRANCHES,
    *CONDITIONAL,
    *MULTIPLIES,
    *DSP,
    *DIVIDES,
    *MISALIGNED,
    *FLOATING,
    *LOOPS,
)


def changed(cases: Sequence[Case], cycles: Mapping[str, int]) -> tuple[Case, ...]:
    """The cases; those that `cycles` names with other cycles."""
    assert set(cycles) <= {c.name for c in cases}
    return tuple(replace(c, cycles=cycles.get(c.name, c.cycles)) for c in cases)


M3 = (
    *LOADS,
    *ADDRESSES,
    *BRANCHES,
    *CONDITIONAL,
    *changed(
        MULTIPLIES,
        {
            "multiply-accumulate": 6,  # MLA, MLS: 2 each
            "long multiply": 8,  # SMULL: 4
            "long multiply-accumulate": 10,  # SMLAL: 5
        },
    ),
    *DIVIDES,
    *MISALIGNED,
    *LOOPS,
)
M33 = (
    *LOADS,
    *changed(
        ADDRESSES,  # no delay
        {
            "address just computed": 3,
            "index just computed": 3,
            "address of a store just computed": 2,
            "address just multiplied": 3,
        },
    ),
    *changed(BRANCHES, {"table branch, index just computed": 5}),
    *CONDITIONAL,
    *MULTIPLIES,
    *DSP,
    *changed(DIVIDES, {"signed": 6, "unsigned": 12}),
    *FLOATING,
    *LOOPS,
)


def small(taken: int, back: int) -> tuple[Case, ...]:
    """M0+ and M0. taken: cycles that a taken branch adds to its 1; back: those that loading PC adds."""
    branches = (
        "bne 1f; nop; 1:",
        "b 1f; nop; 1:",
        "bx r0; nop; 1:",
        "blx r0; nop; 1:",
        "mov pc, r0; nop; 1:",
    )
    return (
        Case("data processing", "adds r0, r5, r6; lsls r0, r0, #2; mov r0, r5", 3),
        Case("loads", "ldr r0, [r1]; ldr r4, [r2]; ldrb r5, [r3]", 6),  # 2+2+2: nothing overlaps
        Case("stores", "str r0, [r1]; str r4, [r2, r5]; strh r5, [r3]", 6),  # 2+2+2
        Case("address just computed", "adds r1, #4; ldr r0, [r1]", 3),  # 1+2
        Case("load multiple", "ldm r1!, {r4-r7}", 5),  # 1+4
        Case("store multiple", "stm r1!, {r4-r6}", 4),  # 1+3
        Case("push and pop", "push {r4-r6}; pop {r4-r6}", 8),  # 1+3, 1+3
        Case("pop into PC", "pop {pc}; 1:", 1 + 1 + back, STACKED),
        Case("pop of three into PC", "pop {r4, r5, pc}; 1:", 1 + 3 + back, f"{STACKED}; push {{r4, r5}}"),
        Case("not taken", "beq 1f; nop; 1:", 2),  # 1+1
        *(
            Case(f"taken: {code.split(';')[0]}", code, 1 + taken, "; ldr r0, =1f + 1; cmp r0, #0")
            for code in branches
        ),
        Case("call", "bl 1f; nop; 1:", 2 + taken),
        *(
            Case(
                f"loop of {n}",
                f"movs r4, #{n}; 1: ldr r0, [r1]; subs r4, #1; bne 1b",
                1 + 4 * n + (n - 1) * taken,
            )
            for n in range(1, 6)
        ),  # a round: 2+1+1
    )


M0PLUS = (*small(taken=1, back=2), Case("multiply", "muls r0, r5", 1), Case("barrier", "dsb", 3))
M0 = (*small(taken=2, back=3), Case("multiply", "muls r0, r5", 1), Case("barrier", "dsb", 4))
M7 = (  # with the call of `mark` behind it (1), which starts beside the last instruction where it can
    Case("two at once", "adds r4, #1; adds r5, #1", 2),  # both, bl
    Case("four in two", "adds r4, #1; adds r5, #1; adds r6, #1; adds r7, #1", 3),  # 2 x both, bl
    Case("one needs the other", "adds r4, #1; adds r4, #1", 2),  # 1, 1 beside bl
    Case("one access a cycle", "ldr r4, [r1]; ldr r5, [r2]; str r6, [r3]", 3),  # 1, 1, 1 beside bl
    Case(
        "access beside data processing", "ldr r4, [r1]; adds r5, #1; ldr r6, [r2]; adds r7, #1", 3
    ),  # 2 x both, bl
    Case("loaded value used at once", "ldr r4, [r1]; adds r5, r4, #1", 3),  # 1, wait, 1 beside bl
    Case(
        "loaded value used later", "ldr r4, [r1]; nop; nop; nop; adds r5, r4, #1", 3
    ),  # both, both, 1 beside bl
    Case("loaded address", "ldr r4, [r1]; ldr r5, [r4]", 3, "; str r1, [r1]"),  # 1, wait, 1 beside bl
    Case("one multiplier", "mul r4, r5, r6; mul r0, r5, r6", 2),  # 1, 1 beside bl
    Case("product used at once", "mul r4, r5, r6; adds r0, r4, #1", 3),  # 1, wait, 1 beside bl
    Case("accumulate chain", "mla r0, r5, r6, r0; mla r0, r5, r6, r0", 3),  # 1, wait, 1 beside bl
    Case("divide", "sdiv r0, r7, r6", 7),  # 6, bl
    Case("load multiple", "ldm r1, {r4-r7}", 5),  # 4, bl
    Case("load of two", "ldrd r4, r5, [r1]", 3),  # 2, bl
    Case("barrier", "dsb", 3),  # 2, bl
    Case("floating add chain", "vadd.f32 s0, s1, s2; vadd.f32 s0, s0, s2", 4),  # 1, 2 waits, 1 beside bl
    Case("floating beside integer", "vadd.f32 s0, s1, s2; adds r4, #1", 2),  # both, bl
    Case("floating divide", "vdiv.f32 s0, s1, s2", 15),  # 14, bl
    Case("floating load used at once", "vldr s0, [r1]; vadd.f32 s1, s0, s2", 3),  # 1, wait, 1 beside bl
    Case("not taken", "beq 1f; nop; 1:", 2),  # 1, nop beside bl
    Case("taken", "bne 1f; nop; 1:", 3),  # 1+1, bl
    Case("branch to a register", "bx r0; nop; 1:", 4, "; ldr r0, =1f + 1"),  # 1+2, bl
    Case("pop into PC", "pop {pc}; 1:", 4, STACKED),  # 1+2, bl
    Case("table branch", "tbb [pc, r4]; 1: .byte (2f - 1b) / 2, 0; nop; 2:", 6),  # 3+2, bl
)
TABLES: Mapping[str, tuple[Case, ...]] = {
    "m0": M0,
    "m0plus": M0PLUS,
    "m3": M3,
    "m4": M4,
    "m7": M7,
    "m33": M33,
}

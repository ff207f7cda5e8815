"""Decoding: encodings against kind, accesses and registers; what no decoder knows; agreement with the counter."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from capstone import arm_const
from hypothesis import given
from hypothesis import strategies as st

from tinygen.cycles.instructions import Instruction, Kind, decode
from tinygen.emulators.thumb import count_instructions


@dataclass(frozen=True)
class Row:
    """code: bytes in hex, as `text` assembles; the rest as in Instruction. address: names with spaces between."""

    code: str
    text: str
    kind: Kind
    transfers: int = 0
    address: str = ""
    sets_pc: bool = False
    unconditional: bool = False


ROWS = (
    Row("8818", "adds r0, r1, r2", Kind.ALU),
    Row("a1f57f40", "sub.w r0, r1, #0xFF00", Kind.ALU),
    Row("01f30700", "ssat r0, #8, r1", Kind.ALU),
    Row("2ffa81f0", "sxtb16 r0, r1", Kind.ALU),
    Row("c1ea0240", "pkhbt r0, r1, r2, lsl #16", Kind.ALU),
    Row("00bf", "nop", Kind.ALU),
    Row("90f800f0", "pld [r0]", Kind.ALU),
    Row("4843", "muls r0, r1, r0", Kind.MUL),
    Row("01fb02f0", "mul r0, r1, r2", Kind.MUL),
    Row("51fb12f0", "smmulr r0, r1, r2", Kind.MUL),
    Row("21fb02f0", "smuad r0, r1, r2", Kind.MUL),
    Row("31fb02f0", "smulwb r0, r1, r2", Kind.MUL),
    Row("01fb0230", "mla r0, r1, r2, r3", Kind.MLA),
    Row("01fb1230", "mls r0, r1, r2, r3", Kind.MLA),
    Row("21fb0230", "smlad r0, r1, r2, r3", Kind.MLA),
    Row("11fb1230", "smlabt r0, r1, r2, r3", Kind.MLA),
    Row("31fb1230", "smlawt r0, r1, r2, r3", Kind.MLA),
    Row("51fb0230", "smmla r0, r1, r2, r3", Kind.MLA),
    Row("82fb0301", "smull r0, r1, r2, r3", Kind.LONG_MUL),
    Row("a2fb0301", "umull r0, r1, r2, r3", Kind.LONG_MUL),
    Row("c2fb0301", "smlal r0, r1, r2, r3", Kind.LONG_MLA),
    Row("e2fb0301", "umlal r0, r1, r2, r3", Kind.LONG_MLA),
    Row("c2fb8301", "smlalbb r0, r1, r2, r3", Kind.LONG_MLA),
    Row("c2fbc301", "smlald r0, r1, r2, r3", Kind.LONG_MLA),
    Row("d2fbc301", "smlsld r0, r1, r2, r3", Kind.LONG_MLA),
    Row("e2fb6301", "umaal r0, r1, r2, r3", Kind.LONG_MLA),
    Row("91fbf2f0", "sdiv r0, r1, r2", Kind.DIV),
    Row("b1fbf2f0", "udiv r0, r1, r2", Kind.DIV),
    Row("0868", "ldr r0, [r1]", Kind.LOAD, transfers=1, address="r1"),
    Row("d1f80008", "ldr.w r0, [r1, #2048]", Kind.LOAD, transfers=1, address="r1"),
    Row("51f8040b", "ldr r0, [r1], #4", Kind.LOAD, transfers=1, address="r1"),
    Row("51f8040f", "ldr r0, [r1, #4]!", Kind.LOAD, transfers=1, address="r1"),
    Row("885c", "ldrb r0, [r1, r2]", Kind.LOAD, transfers=1, address="r1 r2"),
    Row("31f91200", "ldrsh.w r0, [r1, r2, lsl #1]", Kind.LOAD, transfers=1, address="r1 r2"),
    Row("0298", "ldr r0, [sp, #8]", Kind.LOAD, transfers=1, address="sp"),
    Row("0148", "ldr r0, [pc, #4]", Kind.LOAD, transfers=1),
    Row("d0f800f0", "ldr pc, [r0]", Kind.LOAD, transfers=1, address="r0", sets_pc=True, unconditional=True),
    Row(
        "5df804fb", "ldr pc, [sp], #4", Kind.LOAD, transfers=1, address="sp", sets_pc=True, unconditional=True
    ),
    Row("d2e90201", "ldrd r0, r1, [r2, #8]", Kind.LOAD_PAIR, transfers=2, address="r2"),
    Row("06c8", "ldm r0!, {r1, r2}", Kind.LOAD_MULTIPLE, transfers=2, address="r0"),
    Row("03c8", "ldm r0, {r0, r1}", Kind.LOAD_MULTIPLE, transfers=2, address="r0"),
    Row("90e8fe01", "ldm.w r0, {r1-r8}", Kind.LOAD_MULTIPLE, transfers=8, address="r0"),
    Row("30e90601", "ldmdb r0!, {r1, r2, r8}", Kind.LOAD_MULTIPLE, transfers=3, address="r0"),
    Row(
        "90e80280",
        "ldm r0, {r1, pc}",
        Kind.LOAD_MULTIPLE,
        transfers=2,
        address="r0",
        sets_pc=True,
        unconditional=True,
    ),
    Row("03bc", "pop {r0, r1}", Kind.LOAD_MULTIPLE, transfers=2, address="sp"),
    Row("00bd", "pop {pc}", Kind.LOAD_MULTIPLE, transfers=1, address="sp", sets_pc=True, unconditional=True),
    Row(
        "70bd",
        "pop {r4-r6, pc}",
        Kind.LOAD_MULTIPLE,
        transfers=4,
        address="sp",
        sets_pc=True,
        unconditional=True,
    ),
    Row(
        "bde8f08f",
        "pop.w {r4-r11, pc}",
        Kind.LOAD_MULTIPLE,
        transfers=9,
        address="sp",
        sets_pc=True,
        unconditional=True,
    ),
    Row("4860", "str r0, [r1, #4]", Kind.STORE, transfers=1, address="r1"),
    Row("01f8010b", "strb r0, [r1], #1", Kind.STORE, transfers=1, address="r1"),
    Row("21f8020f", "strh.w r0, [r1, #2]!", Kind.STORE, transfers=1, address="r1"),
    Row("0190", "str r0, [sp, #4]", Kind.STORE, transfers=1, address="sp"),
    Row("8850", "str r0, [r1, r2]", Kind.STORE_INDEXED, transfers=1, address="r1 r2"),
    Row("01f82200", "strb.w r0, [r1, r2, lsl #2]", Kind.STORE_INDEXED, transfers=1, address="r1 r2"),
    Row("c2e90001", "strd r0, r1, [r2]", Kind.STORE_PAIR, transfers=2, address="r2"),
    Row("06c0", "stm r0!, {r1, r2}", Kind.STORE_MULTIPLE, transfers=2, address="r0"),
    Row("20e91e00", "stmdb r0!, {r1-r4}", Kind.STORE_MULTIPLE, transfers=4, address="r0"),
    Row("01b4", "push {r0}", Kind.STORE_MULTIPLE, transfers=1, address="sp"),
    Row("f0b5", "push {r4-r7, lr}", Kind.STORE_MULTIPLE, transfers=5, address="sp"),
    Row("2de9f04f", "push.w {r4-r11, lr}", Kind.STORE_MULTIPLE, transfers=9, address="sp"),
    Row("30e0", "b .+100", Kind.BRANCH, unconditional=True),
    Row("02f086bb", "b.w .+10000", Kind.BRANCH, unconditional=True),
    Row("02d0", "beq .+8", Kind.BRANCH),
    Row("42f08683", "bne.w .+10000", Kind.BRANCH),
    Row("10b1", "cbz r0, .+8", Kind.BRANCH),
    Row("11b9", "cbnz r1, .+8", Kind.BRANCH),
    Row("00f030f8", "bl .+100", Kind.CALL, unconditional=True),
    Row("7047", "bx lr", Kind.BRANCH_REGISTER, unconditional=True),
    Row("9847", "blx r3", Kind.BRANCH_REGISTER, unconditional=True),
    Row("f746", "mov pc, lr", Kind.BRANCH_REGISTER, unconditional=True),
    Row("8f44", "add pc, r1", Kind.BRANCH_REGISTER, unconditional=True),
    Row("dfe800f0", "tbb [pc, r0]", Kind.BRANCH_TABLE, transfers=1, address="r0", unconditional=True),
    Row("d2e800f0", "tbb [r2, r0]", Kind.BRANCH_TABLE, transfers=1, address="r0 r2", unconditional=True),
    Row("dfe811f0", "tbh [pc, r1, lsl #1]", Kind.BRANCH_TABLE, transfers=1, address="r1", unconditional=True),
    Row("1cbf", "itt ne", Kind.IT),
    Row("eff31080", "mrs r0, primask", Kind.SYSTEM),
    Row("bff34f8f", "dsb", Kind.SYSTEM),
    Row("bff36f8f", "isb", Kind.SYSTEM),
    Row("72b6", "cpsid i", Kind.SYSTEM),
    Row("00df", "svc #0", Kind.SYSTEM),
    Row("30ee810a", "vadd.f32 s0, s1, s2", Kind.FP),
    Row("21ee020b", "vmul.f64 d0, d1, d2", Kind.FP),
    Row("b4ee600a", "vcmp.f32 s0, s1", Kind.FP),
    Row("bdeec00a", "vcvt.s32.f32 s0, s0", Kind.FP),
    Row("b0eee00a", "vabs.f32 s0, s1", Kind.FP),
    Row("10ee100a", "vmov r0, s0", Kind.FP_MOVE),
    Row("b7ee000a", "vmov.f32 s0, #1.0", Kind.FP_MOVE),
    Row("f1ee10fa", "vmrs apsr_nzcv, fpscr", Kind.FP_MOVE),
    Row("00ee810a", "vmla.f32 s0, s1, s2", Kind.FP_MLA),
    Row("a0eec10a", "vfms.f32 s0, s1, s2", Kind.FP_MLA),
    Row("10ee810a", "vnmls.f32 s0, s1, s2", Kind.FP_MLA),
    Row("80ee810a", "vdiv.f32 s0, s1, s2", Kind.FP_DIV),
    Row("b1eee00a", "vsqrt.f32 s0, s1", Kind.FP_DIV),
    Row("91ed000a", "vldr s0, [r1]", Kind.FP_LOAD, transfers=1, address="r1"),
    Row("91ed020b", "vldr d0, [r1, #8]", Kind.FP_LOAD, transfers=2, address="r1"),
    Row("9fed010a", "vldr s0, [pc, #4]", Kind.FP_LOAD, transfers=1),
    Row("91ec040a", "vldm r1, {s0-s3}", Kind.FP_LOAD, transfers=4, address="r1"),
    Row("b1ec060b", "vldm r1!, {d0-d2}", Kind.FP_LOAD, transfers=6, address="r1"),
    Row("bdec038a", "vpop {s16-s18}", Kind.FP_LOAD, transfers=3, address="sp"),
    Row("bdec048b", "vpop {d8-d9}", Kind.FP_LOAD, transfers=4, address="sp"),
    Row("81ed010a", "vstr s0, [r1, #4]", Kind.FP_STORE, transfers=1, address="r1"),
    Row("8ded000b", "vstr d0, [sp]", Kind.FP_STORE, transfers=2, address="sp"),
    Row("a1ec022a", "vstm r1!, {s4-s5}", Kind.FP_STORE, transfers=2, address="r1"),
    Row("2ded018a", "vpush {s16}", Kind.FP_STORE, transfers=1, address="sp"),
    Row("2ded048b", "vpush {d8-d9}", Kind.FP_STORE, transfers=4, address="sp"),
)


def registers(names: str) -> frozenset[int]:
    """Numbers of registers: "r0 sp"."""
    return frozenset(getattr(arm_const, f"ARM_REG_{n.upper()}") for n in names.split())


def one(code: str) -> Instruction:
    (found,) = decode(bytes.fromhex(code), 0x800)
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.text)
def test_encodings(row: Row) -> None:
    got = one(row.code)
    assert (got.kind, got.transfers, got.address) == (row.kind, row.transfers, registers(row.address)), got
    assert (got.sets_pc, got.unconditional) == (row.sets_pc, row.unconditional)
    assert (got.at, got.size, got.end) == (0x800, len(row.code) // 2, 0x800 + len(row.code) // 2)
    assert got.branches == (row.sets_pc or row.kind.name.startswith(("BRANCH", "CALL")))


@pytest.mark.parametrize(
    ("code", "kinds", "always"),
    [
        # itt eq; ldreq r0, [r1]; moveq r2, r3; ldr r0, [r1]
        ("04bf08681a460868", "IT LOAD ALU LOAD", []),
        # it lt; bxlt lr; bx lr
        ("b8bf70477047", "IT BRANCH_REGISTER BRANCH_REGISTER", [2]),
        # it ne; popne {r4, pc}; pop {pc}
        ("18bf10bd00bd", "IT LOAD_MULTIPLE LOAD_MULTIPLE", [2]),
        # ite eq; moveq r0, r1; bne .+20; b .+10
        ("0cbf084608e003e0", "IT ALU BRANCH BRANCH", [3]),
        # itttt ne; 3 x movne r0, r1; blne .+20; bl .+20
        ("1fbf08460846084600f008f800f008f8", "IT ALU ALU ALU CALL CALL", [5]),
        # it cs; movcs r0, r1; b .+20
        ("28bf084608e0", "IT ALU BRANCH", [2]),
    ],
)
def test_what_it_covers_is_conditional(code: str, kinds: str, always: list[int]) -> None:
    """In an IT block a branch has the encoding of one that is always taken. always: those that are."""
    block = decode(bytes.fromhex(code), 0x800)
    assert [i.kind.name for i in block] == kinds.split()
    assert [n for n, i in enumerate(block) if i.unconditional] == always


@pytest.mark.parametrize(
    ("code", "reads", "writes"),
    [
        ("8818", "r1 r2", "r0"),  # adds r0, r1, r2
        ("01f30700", "r1", "r0"),  # ssat r0, #8, r1
        ("51f8040b", "r1", "r0 r1"),  # ldr r0, [r1], #4
        ("06c8", "r0", "r1 r2 r0"),  # ldm r0!, {r1, r2}
        ("10bd", "sp", "sp r4"),  # pop {r4, pc}: PC is no result
        ("91ec040a", "r1", "s0 s1 s2 s3"),  # vldm r1, {s0-s3}
        ("91ed020b", "r1", "s0 s1"),  # vldr d0, [r1, #8]
        ("bdec048b", "", "s16 s17 s18 s19"),  # vpop {d8-d9}
        ("2ded048b", "s16 s17 s18 s19", ""),  # vpush {d8-d9}
        ("21ee020b", "s2 s3 s4 s5", "s0 s1"),  # vmul.f64 d0, d1, d2
    ],
)
def test_registers(code: str, reads: str, writes: str) -> None:
    """What decides whether an instruction waits for another; a double register is two single ones."""
    got = one(code)
    assert (got.reads, got.writes) == (registers(reads), registers(writes)), got


@pytest.mark.parametrize(("code", "size"), [("00de", 2), ("fff7ffaf", 4), ("ffffffff", 4), ("40efff0f", 4)])
def test_what_is_no_instruction_is_taken_for_data_processing(code: str, size: int) -> None:
    """udf, and encodings that are undefined."""
    got = one(code)
    assert (got.kind, got.size, got.transfers, got.branches) == (Kind.ALU, size, 0, False)


def assert_consistent(halfwords: list[int]) -> None:
    code = struct.pack(f"<{len(halfwords)}H", *halfwords)
    block = decode(code, 0x1000)
    assert [i.at for i in block] == [0x1000, *(i.end for i in block)][: len(block)]
    assert sum(i.size for i in block) == len(code)
    assert len(block) == count_instructions(code)
    assert all(0 <= i.transfers <= 32 for i in block)
    assert all(i.sets_pc or i.kind.name.startswith(("BRANCH", "CALL")) for i in block if i.unconditional)


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=100))
def test_any_bytes_decode(halfwords: list[int]) -> None:
    """The last one is made whole where it was cut."""
    ends_whole = count_instructions(
        struct.pack(f"<{len(halfwords) + 1}H", *halfwords, 0)
    ) > count_instructions(struct.pack(f"<{len(halfwords)}H", *halfwords))
    assert_consistent(halfwords if ends_whole else [*halfwords, 0])


@given(st.lists(st.tuples(st.integers(0xE800, 0xFFFF), st.integers(0, 0xFFFF)), min_size=20, max_size=100))
def test_any_long_encodings_decode(pairs: list[tuple[int, int]]) -> None:
    assert_consistent([h for pair in pairs for h in pair])


def test_short_encodings_decode() -> None:
    """One in three of all."""
    assert_consistent(list(range(0, 0xE800, 3)))

"""Thumb instructions as the timing tables see them: a kind, the registers that matter, the words they move.

Decoded by capstone, each block of code once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Any

import capstone
from capstone import arm_const


class Kind(Enum):
    """What decides an instruction's time."""

    ALU = "data processing"
    MUL = "32-bit multiply"
    MLA = "32-bit multiply-accumulate"
    LONG_MUL = "64-bit multiply"
    LONG_MLA = "64-bit multiply-accumulate"
    DIV = "divide"
    LOAD = "load"
    LOAD_PAIR = "load of two words"
    LOAD_MULTIPLE = "load of several words"
    STORE = "store, immediate offset"
    STORE_INDEXED = "store, register offset"
    STORE_PAIR = "store of two words"
    STORE_MULTIPLE = "store of several words"
    BRANCH = "branch"
    CALL = "branch with link"
    BRANCH_REGISTER = "branch to a register"
    BRANCH_TABLE = "table branch"
    IT = "if-then"
    SYSTEM = "special registers and barriers"
    FP = "floating point add, multiply, compare, convert"
    FP_MOVE = "floating point move"
    FP_MLA = "floating point multiply-accumulate"
    FP_DIV = "floating point divide and square root"
    FP_LOAD = "floating point load"
    FP_STORE = "floating point store"


LOADS = frozenset({Kind.LOAD, Kind.LOAD_PAIR, Kind.LOAD_MULTIPLE, Kind.FP_LOAD})
STORES = frozenset({Kind.STORE, Kind.STORE_INDEXED, Kind.STORE_PAIR, Kind.STORE_MULTIPLE, Kind.FP_STORE})
MEMORY = LOADS | STORES
WORD_BY_WORD = MEMORY - {Kind.LOAD, Kind.STORE, Kind.STORE_INDEXED}
MULTIPLIES = frozenset({Kind.MUL, Kind.MLA, Kind.LONG_MUL, Kind.LONG_MLA})
BRANCHES = frozenset({Kind.BRANCH, Kind.CALL, Kind.BRANCH_REGISTER, Kind.BRANCH_TABLE})
FLOATING = frozenset({Kind.FP, Kind.FP_MOVE, Kind.FP_MLA, Kind.FP_DIV})
COMPUTING = frozenset({Kind.ALU, Kind.DIV}) | MULTIPLIES


@dataclass(frozen=True)
class Instruction:
    """One instruction. reads, writes: registers (capstone's numbers); address: those that form its address.

    transfers: bus accesses it makes (a table branch reads one entry). sets_pc: a load into PC.
    unconditional: it always branches.
    """

    at: int
    size: int
    kind: Kind
    text: str
    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    address: frozenset[int] = frozenset()
    transfers: int = 0
    sets_pc: bool = False
    unconditional: bool = False

    @property
    def end(self) -> int:
        """Address behind it."""
        return self.at + self.size

    @property
    def branches(self) -> bool:
        """It can go elsewhere than on."""
        return self.kind in BRANCHES or self.sets_pc


@cache
def _decoder() -> Any:
    decoder = capstone.Cs(
        capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
    )
    decoder.detail = True
    decoder.skipdata = True  # what it does not know becomes data: _instruction takes it for data processing
    return decoder


def decode(code: bytes, address: int) -> tuple[Instruction, ...]:
    """The instructions of a stretch of code that starts at one and ends behind one."""
    found: list[Instruction] = []
    at = conditional = 0
    while at < len(code):
        size = 4 if code[at + 1] >= 0xE8 else 2
        one = next(iter(_decoder().disasm(code[at : at + size], address + at)), None)
        known = one is not None and one.id != 0 and one.size == size
        instruction = _instruction(one) if known else unknown(address + at, size)
        found.append(replace(instruction, unconditional=False) if conditional else instruction)
        conditional = _governed(code[at]) if instruction.kind is Kind.IT else max(0, conditional - 1)
        at += size
    return tuple(found)


def _governed(it: int) -> int:
    """Instructions that an IT covers, from its low byte: the lowest set bit of the mask is behind the last."""
    mask = it & 0xF
    return 4 - ((mask & -mask).bit_length() - 1)


def unknown(at: int, size: int) -> Instruction:
    """An instruction that capstone does not know, taken for data processing."""
    return Instruction(at, size, Kind.ALU, "?")


ALWAYS = (arm_const.ARM_CC_AL, arm_const.ARM_CC_INVALID)
"""Conditions of what is not conditional."""


def _instruction(one: Any) -> Instruction:
    name = one.mnemonic.split(".")[0]
    kind = _kind(one, name)
    reads, writes = _registers(one, name, kind)
    if arm_const.ARM_REG_PC in writes and kind is Kind.ALU:
        kind = Kind.BRANCH_REGISTER
    sets_pc = arm_const.ARM_REG_PC in writes and kind in LOADS
    return Instruction(
        at=one.address,
        size=one.size,
        kind=kind,
        text=f"{one.mnemonic} {one.op_str}".strip(),
        reads=reads,
        writes=writes - {arm_const.ARM_REG_PC, arm_const.ARM_REG_CPSR},
        address=_address_registers(one) if kind in MEMORY or kind is Kind.BRANCH_TABLE else frozenset(),
        transfers=_transfers(one, name, kind),
        sets_pc=sets_pc,
        unconditional=(sets_pc or kind in BRANCHES) and not name.startswith("cb") and one.cc in ALWAYS,
    )


LONG = {
    "smull": Kind.LONG_MUL,
    "umull": Kind.LONG_MUL,
    "smlal": Kind.LONG_MLA,
    "umlal": Kind.LONG_MLA,
    "umaal": Kind.LONG_MLA,
    "smlald": Kind.LONG_MLA,
    "smlsld": Kind.LONG_MLA,
}
NAMES = {
    "b": Kind.BRANCH,
    "cbz": Kind.BRANCH,
    "cbnz": Kind.BRANCH,
    "bl": Kind.CALL,
    "bx": Kind.BRANCH_REGISTER,
    "blx": Kind.BRANCH_REGISTER,
    "tbb": Kind.BRANCH_TABLE,
    "tbh": Kind.BRANCH_TABLE,
    "sdiv": Kind.DIV,
    "udiv": Kind.DIV,
    "ldrd": Kind.LOAD_PAIR,
    "strd": Kind.STORE_PAIR,
    "push": Kind.STORE_MULTIPLE,
    "pop": Kind.LOAD_MULTIPLE,
}
MULTIPLY = ("mul", "smul", "smmul", "smuad", "smusd")
MULTIPLY_ADD = ("mla", "mls", "smla", "smls", "smmla", "smmls", "usada8", "usad8")
SYSTEM = ("mrs", "msr", "dsb", "dmb", "isb", "cps", "wfi", "wfe", "sev", "svc", "bkpt")


def _kind(one: Any, name: str) -> Kind:
    """By the mnemonic without its condition."""
    stem = _without_condition(one, name)
    if stem in NAMES:
        return NAMES[stem]
    for prefix, kind in LONG.items():
        if stem.startswith(prefix):
            return kind
    if stem.startswith(MULTIPLY):
        return Kind.MUL
    if stem.startswith(MULTIPLY_ADD):
        return Kind.MLA
    if stem.startswith("ldm"):
        return Kind.LOAD_MULTIPLE
    if stem.startswith("stm"):
        return Kind.STORE_MULTIPLE
    if stem.startswith("ldr"):
        return Kind.LOAD
    if stem.startswith("str"):
        return Kind.STORE_INDEXED if _indexed(one) else Kind.STORE
    if one.id == arm_const.ARM_INS_IT:
        return Kind.IT
    if stem.startswith(SYSTEM):
        return Kind.SYSTEM
    return _floating(stem) if stem.startswith("v") else Kind.ALU


def _without_condition(one: Any, name: str) -> str:
    """beq -> b, ldrne -> ldr; capstone tells the condition."""
    if one.cc in ALWAYS or one.id == arm_const.ARM_INS_IT:
        return str(name)
    suffix = CONDITIONS[one.cc]
    return str(name[: -len(suffix)] if name.endswith(suffix) else name)


CONDITIONS = {
    getattr(arm_const, f"ARM_CC_{c}"): c.lower() for c in "EQ NE HS LO MI PL VS VC HI LS GE LT GT LE".split()
}


def _registers(one: Any, name: str, kind: Kind) -> tuple[frozenset[int], frozenset[int]]:
    """Registers that it reads and writes; a double register counts as the two single ones that it is made of.

    capstone leaves out what vldm writes and what ssat reads, and has vpush write what it stores.
    """
    reads, writes = (frozenset(r) for r in one.regs_access())
    listed = frozenset(o.reg for o in one.operands if o.type == arm_const.ARM_OP_REG)
    if kind is Kind.FP_LOAD:
        writes |= listed - reads if name != "vpop" else listed
        reads -= listed if name == "vpop" else frozenset()
    elif kind is Kind.FP_STORE:
        reads |= listed
        writes -= listed if name == "vpush" else frozenset()
    else:
        reads |= listed - writes
    return _singles(reads), _singles(writes)


def _singles(registers: frozenset[int]) -> frozenset[int]:
    return frozenset(part for r in registers for part in HALVES.get(r, (r,)))


HALVES = {
    arm_const.ARM_REG_D0 + i: (arm_const.ARM_REG_S0 + 2 * i, arm_const.ARM_REG_S0 + 2 * i + 1)
    for i in range(16)
}
"""Double registers and the single ones that they are made of."""


def _floating(stem: str) -> Kind:
    if stem.startswith(("vldr", "vldm", "vpop")):
        return Kind.FP_LOAD
    if stem.startswith(("vstr", "vstm", "vpush")):
        return Kind.FP_STORE
    if stem.startswith(("vmla", "vmls", "vfma", "vfms", "vnmla", "vnmls", "vfnma", "vfnms")):
        return Kind.FP_MLA
    if stem.startswith(("vdiv", "vsqrt")):
        return Kind.FP_DIV
    return Kind.FP_MOVE if stem.startswith(("vmov", "vmrs", "vmsr")) else Kind.FP


def _memory_operand(one: Any) -> Any | None:
    return next((o.mem for o in one.operands if o.type == arm_const.ARM_OP_MEM), None)


def _indexed(one: Any) -> bool:
    memory = _memory_operand(one)
    return memory is not None and memory.index != 0


def _address_registers(one: Any) -> frozenset[int]:
    """Base and index; SP or the first operand for instructions that move several words."""
    memory = _memory_operand(one)
    if memory is not None:
        return frozenset(r for r in (memory.base, memory.index) if r not in (0, arm_const.ARM_REG_PC))
    if one.mnemonic.split(".")[0].startswith(("push", "pop", "vpush", "vpop")):
        return frozenset({arm_const.ARM_REG_SP})
    return frozenset({one.operands[0].reg})


def _transfers(one: Any, name: str, kind: Kind) -> int:
    """Words (or smaller things) that go over the bus, one by one."""
    if kind in (Kind.LOAD_PAIR, Kind.STORE_PAIR):
        return 2
    registers: int = sum(o.type == arm_const.ARM_OP_REG for o in one.operands)
    if kind in (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE):
        return registers - (0 if name.startswith(("push", "pop")) else 1)
    if kind in (Kind.FP_LOAD, Kind.FP_STORE):
        several = name.startswith(("vpush", "vpop", "vldm", "vstm"))
        count = registers - (1 if name.startswith(("vldm", "vstm")) else 0) if several else 1
        first = next(o.reg for o in reversed(one.operands) if o.type == arm_const.ARM_OP_REG)
        is_double = bool(arm_const.ARM_REG_D0 <= first <= arm_const.ARM_REG_D31)
        return count * (1 + is_double)
    return int(kind in MEMORY or kind is Kind.BRANCH_TABLE)

"""One run of one image in Unicorn: memory map, devices, hooks."""

from __future__ import annotations

import struct
from typing import Any

import unicorn as uc
from unicorn import arm_const

from tinygen.boards import Board, Region
from tinygen.building import Firmware, load_segments
from tinygen.emulators import block_counter
from tinygen.emulators.block_counter import NativeHook
from tinygen.emulators.devices import Bus
from tinygen.emulators.peripherals import PAGE
from tinygen.emulators.process import Console
from tinygen.emulators.thumb import count_instructions

CPUS = {
    "cortex-m0": arm_const.UC_CPU_ARM_CORTEX_M0,
    "cortex-m0plus": arm_const.UC_CPU_ARM_CORTEX_M0,
    "cortex-m3": arm_const.UC_CPU_ARM_CORTEX_M3,
    "cortex-m4": arm_const.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": arm_const.UC_CPU_ARM_CORTEX_M7,
    "cortex-m33": arm_const.UC_CPU_ARM_CORTEX_M33,
}
ACCESSES = {
    uc.UC_MEM_READ_UNMAPPED: "read",
    uc.UC_MEM_WRITE_UNMAPPED: "write",
    uc.UC_MEM_FETCH_UNMAPPED: "instruction_fetch",
    uc.UC_MEM_READ_PROT: "read",
    uc.UC_MEM_WRITE_PROT: "write_to_read-only_memory,",
    uc.UC_MEM_FETCH_PROT: "instruction_fetch",
}
CFSR_BIT_OF_EXCEPTION = {1: 16, 17: 19, 18: 17, 19: 20, 22: 24}
"""Unicorn's exceptions (as QEMU numbers them inside) -> bit of CFSR that says the same on silicon."""
JUNK = 0x5A
"""What SRAM holds at power-up: firmware that counts on zeros is found out."""


class PythonHook:
    """Counts as block_counter.NativeHook does, where no C compiler is: about 2 us a block."""

    def __init__(self, core: Any, mark: int) -> None:
        self._core, self._mark = core, mark
        self._lengths: dict[tuple[int, int], int] = {}
        self._count = self._mark_length = 0
        self._handle = core.hook_add(uc.UC_HOOK_BLOCK, self._block)

    def count(self) -> int:
        """Instructions since the hook was installed, the block at `mark` counted once."""
        return self._count + self._mark_length

    def so_far(self) -> int:
        """Instructions since the hook was installed, up to the end of the block that runs; without that at `mark`."""
        return self._count

    def remove(self) -> None:
        """Take the hook away."""
        self._core.hook_del(self._handle)

    def _block(self, core: Any, address: int, size: int, data: Any) -> None:
        length = self._lengths.get((address, size))
        if length is None:
            length = self._lengths[address, size] = count_instructions(bytes(core.mem_read(address, size)))
        if address == self._mark:
            self._mark_length = length
        else:
            self._count += length


class Machine:
    """A core, the board's memory, and devices. run() returns the fault as fields of a FAULT line, or None."""

    def __init__(
        self, firmware: Firmware, board: Board, inputs: bytes, counted: frozenset[int], limit: int
    ) -> None:
        """counted: positions of the samples whose instructions are counted (samples_to_count)."""
        assert board.unicorn is not None
        self.console = Console(limit)
        self._firmware = firmware
        self._core: Any = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
        self._core.ctl_set_cpu_model(CPUS[board.unicorn.cpu])
        self._fault: str | None = None
        self._stopped = False
        self._hook: NativeHook | PythonHook | None = None
        self._begun: int | None = None
        self._board = board
        self._mark_address = firmware.symbols["tg_mark"].address & ~1
        self._marks = self._timer = 0
        self._stands_at_mark = False
        self._counted = counted
        for region in board.regions:
            self._map(region)
        self._load(firmware, inputs)
        self._bus = Bus(board, self._print, self._clock)
        for page in self._bus.pages():
            self._map_page(page)
        self._core.hook_add(uc.UC_HOOK_MEM_INVALID, self._refuse)
        self._core.hook_add(uc.UC_HOOK_INTR, self._exception)
        self._core.hook_add(uc.UC_HOOK_CODE, self._mark, begin=self._mark_address, end=self._mark_address)

    @property
    def core(self) -> Any:
        """Unicorn's own object, for hooks that are installed before the run."""
        return self._core

    def stop(self) -> None:
        """End the run; may be called from another thread."""
        self._stopped = True
        self._core.emu_stop()

    def run(self) -> str | None:
        """From reset until the log's last line, a fault, or stop()."""
        stack, entry = struct.unpack(
            "<II", self._core.mem_read(self._firmware.symbols["tg_vectors"].address, 8)
        )
        self._core.reg_write(arm_const.UC_ARM_REG_SP, stack)
        at = entry
        while not self._stopped:
            try:
                self._core.emu_start(at | 1, 0xFFFFFFFF)
            except uc.UcError as problem:
                self._fault = self._fault or self._fields(_reason(problem))
            if not self._stands_at_mark or self._fault:
                break
            self._switch_counting()
            at = self._mark_address
        return self._fault

    def _map(self, region: Region) -> None:
        """Flash read-only, SRAM writable; executable only where the image has code."""
        rights = uc.UC_PROT_READ | (uc.UC_PROT_WRITE if region.writable else 0)
        if any(region.origin <= address < region.end for address, _ in self._firmware.code_ranges):
            rights |= uc.UC_PROT_EXEC
        self._core.mem_map(region.origin, region.length, rights)
        self._core.mem_write(region.origin, bytes([JUNK]) * region.length)

    def _load(self, firmware: Firmware, inputs: bytes) -> None:
        for address, data in load_segments(firmware.elf):
            self._core.mem_write(address, data)
        self._core.mem_write(firmware.symbols["__tg_input_start"].address, inputs)

    def _map_page(self, page: int) -> None:
        """Registers: the bus answers, or the access is a fault."""

        def read(core: Any, offset: int, size: int, data: Any) -> int:
            value = self._bus.read(page + offset)
            if value is None:
                self._stop_with(f"access=read address={page + offset:08x}")
            return value or 0

        def write(core: Any, offset: int, size: int, value: int, data: Any) -> None:
            if not self._bus.write(page + offset, value):
                self._stop_with(f"access=write address={page + offset:08x}")

        self._core.mmio_map(page, PAGE, read, None, write, None)

    def _print(self, value: int) -> None:
        self.console.add(bytes([value & 0xFF]))
        if self.console.finished or self.console.floods:
            self._core.emu_stop()

    def _clock(self) -> int:
        """What the timer shows: in a sample that is counted the instructions so far, at its end all of them.

        Every reading comes from the same block, of which all has been counted: differences are exact. A block ends
        where a page does, so tg_mark may be two: the first reading is 0 wherever it stands, as the end counts both.
        """
        if self._hook is None:
            return self._timer & 0xFFFFFFFF
        if self._begun is None:
            self._begun = self._hook.so_far()
        return (self._hook.so_far() - self._begun) & 0xFFFFFFFF

    def _mark(self, core: Any, address: int, size: int, data: Any) -> None:
        """tg_mark is entered at start and end of each sample; counting goes on and off there.

        Hooks can only change while the core stands: it stops here, and comes here again when it goes on.
        """
        if self._stands_at_mark:
            self._stands_at_mark = False
            return
        if (step := self._bus.pending()) is not None:
            self._stop_with(f"kind=startup address={step.address:08x}")
            return
        sample, end = divmod(self._marks, 2)
        self._marks += 1
        counted = sample in self._counted
        self._timer = self._hook.count() if end and self._hook is not None else 0
        if counted:
            self._stands_at_mark = True
            core.emu_stop()

    def _switch_counting(self) -> None:
        """Hook every block, or unhook them: the core stands at the start or the end of a sample that counts."""
        if self._hook is None:
            self._hook, self._begun = self._make_hook(), None
        else:
            self._hook.remove()
            self._hook = None
        self._core.ctl_flush_tb()

    def _make_hook(self) -> NativeHook | PythonHook:
        if block_counter.library() is None:
            return PythonHook(self._core, self._mark_address)
        ranges = [(at, bytes(self._core.mem_read(at, size))) for at, size in self._firmware.code_ranges]
        return NativeHook(self._core, ranges, self._mark_address)

    def _refuse(self, core: Any, access: int, address: int, size: int, value: int, data: Any) -> bool:
        self._fault = self._fault or self._fields(
            f"access={ACCESSES.get(access, 'access')} address={address:08x}"
        )
        return False

    def _exception(self, core: Any, number: int, data: Any) -> None:
        bit = CFSR_BIT_OF_EXCEPTION.get(number)
        self._stop_with(f"kind=unicorn text=exception_{number}" if bit is None else f"cfsr={1 << bit:08x}")

    def _stop_with(self, what: str) -> None:
        self._fault = self._fault or self._fields(what)
        self._core.emu_stop()

    def _fields(self, what: str) -> str:
        """`what` and the registers that say where."""
        pc, sp, lr = (
            self._core.reg_read(r)
            for r in (arm_const.UC_ARM_REG_PC, arm_const.UC_ARM_REG_SP, arm_const.UC_ARM_REG_LR)
        )
        stack = self._firmware.symbols["__stack_start"].address
        return f"{what} pc={pc:08x} lr={lr:08x} sp={sp:08x} stack={stack:08x}"


def _reason(problem: Any) -> str:
    """Unicorn's own error as fields of a FAULT line."""
    if problem.errno == uc.UC_ERR_INSN_INVALID:
        return f"cfsr={1 << CFSR_BIT_OF_EXCEPTION[1]:08x}"
    return f"kind=unicorn text={str(problem).replace(' ', '_')}"


def samples_to_count(firmware: Firmware, inputs: bytes, count_all: bool) -> frozenset[int]:
    """Positions of the records to count: all of them, or the first one of each model."""
    first: dict[int, int] = {}
    models = firmware.description.models
    position, at = 0, 8
    while at + 4 <= len(inputs):
        model = struct.unpack_from("<I", inputs, at)[0]
        if model >= len(models):
            break
        first.setdefault(position if count_all else model, position)
        position, at = position + 1, at + models[model].record_bytes
    return frozenset(first.values())

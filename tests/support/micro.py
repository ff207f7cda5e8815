"""Micro-images: a few instructions between two marks, run on a board's memory map and followed by the cycle model."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygen.boards import Board
from tinygen.cycles.bare import trace_elf
from tinygen.cycles.trace import Counts, Trace

CPACR = 0xE000_ED88
START = """
.syntax unified
.thumb
.section .vectors, "a"
.word {stack:#x}
.word reset
.text
.thumb_func
.global reset
reset:
"""
FPU = f"""
ldr r0, ={CPACR:#x}
mov r1, #0xF00000
str r1, [r0]
dsb
isb
"""
END = """
b done
.balign 4
.thumb_func
.global done
done: b done
.balign 4
.thumb_func
.global mark
mark: bx lr
.balign 4
.ltorg
"""


@dataclass(frozen=True)
class Snippet:
    """code: what is measured; setup: runs before the first mark. Labels: numbers (1: 1b 1f), as all share one file."""

    code: str
    setup: str = ""


EMPTY = Snippet("")


def assemble(board: Board, snippets: Sequence[Snippet], folder: Path, data: str = "") -> Path:
    """An image that runs the snippets one after the other, each between two calls of `mark`; ends at `done`.

    data: further assembly; its sections named .in_REGION go to that region, loaded there before the run.
    """
    source, script, elf = folder / "micro.s", folder / "micro.ld", folder / "micro.elf"
    start = START.format(stack=board.ram.end) + (FPU if board.fpu != "none" else "")
    measured = "".join(f"{s.setup}\nbl mark\n{s.code}\nbl mark\nb 9f\n.ltorg\n9:\n" for s in snippets)
    source.write_text(f"{start}{measured}{END}{data}\n")
    script.write_text(_linker_script(board))
    command = ["arm-none-eabi-gcc", *board.compiler_flags, "-nostdlib", f"-T{script}", source, "-o", elf]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return elf


def _linker_script(board: Board) -> str:
    regions = "\n".join(
        f"{r.name} (rwx) : ORIGIN = {r.origin:#x}, LENGTH = {r.length:#x}" for r in board.regions
    )
    own = "\n".join(f".in_{r.name} : {{ *(.in_{r.name}) }} > {r.name}" for r in board.regions)
    text = f".text : {{ KEEP(*(.vectors)) *(.text) }} > {board.code.name}"
    dropped = "/DISCARD/ : { *(.ARM.attributes) }"
    return f"ENTRY(reset)\nMEMORY {{\n{regions}\n}}\nSECTIONS {{\n{text}\n{own}\n{dropped}\n}}\n"


def follow(board: Board, snippets: Sequence[Snippet], folder: Path, data: str = "") -> Trace:
    """One inference of the trace per snippet."""
    elf = assemble(board, snippets, folder, data)
    return trace_elf(elf, board, "mark", "done", len(snippets))


def measure(board: Board, snippets: Sequence[Snippet], folder: Path, data: str = "") -> tuple[Counts, ...]:
    """What each snippet took, the frame (EMPTY's counts) included."""
    return tuple(i.outside for i in follow(board, snippets, folder, data).inferences)

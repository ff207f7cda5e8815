"""Estimated against built .text of the seven Keras models on every kind of core; and the measuring behind the estimate.

    python -m benchmarks.code_sizes            # the table; exit status 1 when an estimate is off by more than 10 %
    python -m benchmarks.code_sizes --write    # measure anew: writes tinygen/code_sizes.json, then the table
    python -m benchmarks.code_sizes --only '*_s16'   # measure these kernels anew, everything else in the file stays

Measured are single kernels: those of the seven models (../shared/data) and of random models (tests/fuzz), in int8, with
int16 activations and in float32, compiled with the flags of building.py for a Cortex-M0, M4 and M55. Needs
arm-none-eabi-gcc. About twelve minutes with --write; --only takes the models in the precisions of the named kernels and
prints no table.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import reduce
from operator import or_
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.datasets import folder
from tinygen import api, building, code_size, fit, ops, pipeline
from tinygen.boards import Board, all_boards, load_board
from tinygen.code_size import ANY, ENCODINGS, Encoding, Features
from tinygen.emission import Library, emit_library
from tinygen.errors import TinygenError
from tinygen.firmware import firmware_files
from tinygen.graph import Graph
from tinygen.planning import plan
from tinygen.program import Program, Step
from tinygen.selection import candidates
from tinygen.wishes import Wishes

MODELS = (
    "kws_ds_cnn",
    "ic_resnet8",
    "vww_mobilenet_v1_025_96",
    "ad_autoencoder",
    "cwru_cnn1d",
    "fan_cnn1d",
    "ceiling_fan_ae",
)
BOARDS = (
    "microbit",
    "nucleo_g071rb",
    "mps2_an385",
    "mps2_an386",
    "mps2_an500",
    "mps2_an505",
    "mps3_an547",
)
"""One per core; built with as much memory as it takes."""
MEASURED: dict[Encoding, str] = {"thumb1": "microbit", "thumb2": "mps2_an386", "helium": "mps3_an547"}
SEEDS = range(90)
"""Random models, for kernels that the seven models have not."""
MATHEMATICAL = ("tg_activation_f32", "tg_softmax_f32")
"""Kernels that call mathematical functions of the C library."""
WEIGHT = 2.0
"""Of the seven models' kernels in all, against the random ones of the same template."""
RIDGE = 0.3
BOUND = 0.1
PREFIX = "m"
ROOM = 16 * 1024 * 1024


# ---- models


Final = Callable[[Graph], Graph]
"""Float graph -> the graph that is emitted."""


def int8(graph: Graph) -> Graph:
    """The final int8 graph, ranges made up."""
    return pipeline.final(fit.assumed_int8(graph), proven=False)


def int16(graph: Graph) -> Graph:
    """The final graph with int16 activations wherever an operator has that form, ranges made up."""
    return pipeline.final(fit.assumed_int8(graph, "int16"), proven=False)


FORMS: dict[str, Final] = {"f32": pipeline.float_program, "s16": int16, "s8": int8}
"""Part of kernels' names -> what makes the graphs that have such kernels. Of two forms the later one counts."""


def real_graphs(names: Sequence[str] = MODELS, final: Final = int8) -> Iterator[tuple[str, Graph]]:
    """(name, final graph) of the Keras models in ../shared/data."""
    for name in names:
        yield name, final(api.load(folder() / "models" / f"{name}.keras").graph)


def random_graphs(final: Final) -> Iterator[Graph]:
    """Final graphs of random models; those that are refused are left out."""
    from tests.fuzz.generator import random_model
    from tinygen.frontend.keras import load_keras_model

    for seed in track(SEEDS, "random models", console=Console(stderr=True)):
        try:
            yield final(load_keras_model(random_model(seed).model))
        except TinygenError:
            continue


def libraries_of(graph: Graph, encoding: Encoding, wanted: Set[str] | None = None) -> Iterator[Library]:
    """Libraries, not placed on any board, in which every kernel that a node could have executes it once. wanted: only
    those with such a kernel."""
    board = load_board(MEASURED[encoding])
    able = [(b, candidates(b, board)) for b in graph.bound()]
    for turn in range(max(len(kernels) for _, kernels in able)):
        chosen = [(b, kernels[min(turn, len(kernels) - 1)]) for b, kernels in able]
        if wanted is None or any(k.name in wanted for _, k in chosen):
            program = Program(graph, tuple(Step(b, k, k.scratch(b)) for b, k in chosen))
            yield emit_library(program, plan(program), PREFIX, encoding=encoding)


# ---- single kernels, compiled


@dataclass(frozen=True)
class Sizes:
    """Of one object file. kernels: (template, features, bytes, calls division?); entry: bytes of invoke, input
    and output; calls, arguments: of the kernels in invoke."""

    kernels: tuple[tuple[str, Features, int, bool], ...]
    entry: int
    calls: int
    arguments: int


def own_bytes(image: building.Firmware, library: Library) -> int:
    """Bytes of the model's own code in an image: kernels with the functions named after them, and its API."""
    names = {*library.functions, *(f"{PREFIX}_{name}" for name in ("invoke", "input", "output"))}
    parts = tuple(f"{name}_" for name in library.functions)
    code = [s.size for n, s in image.symbols.items() if n in names or n.startswith(parts)]
    return sum(code)


def measure(library: Library, encoding: Encoding) -> Sizes:
    """Compile the library for one encoding and read the object's symbols."""
    source = library.files[f"lib/{PREFIX}/{PREFIX}.c"]
    with tempfile.TemporaryDirectory() as out:
        for path, text in library.files.items():
            (Path(out) / Path(path).name).write_text(text)
        target = Path(out) / "model.o"
        flags = (*building.WARNINGS, *building.OPTIMIZE, *load_board(MEASURED[encoding]).compiler_flags)
        command = ["arm-none-eabi-gcc", *flags, "-c", str(Path(out) / f"{PREFIX}.c"), "-o", str(target)]
        subprocess.run(command, check=True)
        sizes, calls = _symbols(target)
    invoke = source[source.index(f"{PREFIX}_invoke(") :]
    made = re.findall(r"^    (\w+)\((.*)\);$", invoke, re.M)
    kernels = tuple(
        (_template(name), Features.of(text), sizes[name], "__aeabi_idiv" in " ".join(calls.get(name, ())))
        for name, text in library.functions.items()
    )
    entry = sum(sizes[f"{PREFIX}_{name}"] for name in ("invoke", "input", "output"))
    return Sizes(kernels, entry, len(made), sum(len(arguments.split(",")) for _, arguments in made))


def _template(symbol: str) -> str:
    return "tg_" + re.sub(rf"^{PREFIX}_|_\d+$", "", symbol)


def _symbols(path: Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Function -> bytes of its section (of itself where gcc has made one of two equal ones), and function -> what its
    code refers to."""
    with path.open("rb") as file:
        image = ELFFile(file)
        table = image.get_section_by_name(".symtab")
        sizes = {s.name: s["st_size"] for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"}
        sections = [s for s in image.iter_sections() if s.name.startswith(".text.")]
        sizes |= {s.name.removeprefix(".text."): s["sh_size"] for s in sections}
        calls = {
            s.name.removeprefix(".rel.text."): [
                table.get_symbol(r["r_info_sym"]).name for r in s.iter_relocations()
            ]
            for s in image.iter_sections()
            if s.name.startswith(".rel.text.")
        }
    return sizes, calls


# ---- coefficients


def regression(
    features: Sequence[Features], sizes: Sequence[int], weights: Sequence[float]
) -> dict[str, Any]:
    """Ridge regression of bytes on tokens, ones, zeros and instructions, and the range of what was
    measured without the latter."""
    x = np.array([[1, f.tokens / 100, f.ones, f.zeros, f.instructions / 10] for f in features], float)
    y, w = np.array(sizes, float), np.array(weights, float)[:, None]
    mean = (w * x).sum(axis=0) / w.sum()
    mean[0] = 0
    z = x - mean
    penalty = RIDGE * np.eye(5)
    penalty[0, 0] = 0
    found = np.linalg.solve(z.T @ (w * z) + penalty, z.T @ (w[:, 0] * y))
    constant = found[0] - found[1:] @ mean[1:]
    linear = [constant, found[1] / 100, found[2], found[3], found[4] / 10]
    of_c = [round(s - linear[4] * f.instructions) for f, s in zip(features, sizes, strict=True)]
    return {"linear": [round(float(v), 3) for v in linear], "range": [max(min(of_c), 0), max(of_c)]}


def kernel_table(real: Sequence[Sizes], random: Sequence[Sizes]) -> dict[str, Any]:
    """Template -> coefficients; ANY for all together."""
    rows = [(k, f, s, True) for m in real for k, f, s, _ in m.kernels]
    rows += [(k, f, s, False) for m in random for k, f, s, _ in m.kernels]
    made = {}
    for kernel in (*sorted({r[0] for r in rows}), ANY):
        mine = [r for r in rows if kernel in (r[0], ANY)]
        others = max(sum(not r[3] for r in mine), 1)
        each = max(1.0, WEIGHT * others / max(len(mine) - others, 1)) if kernel != ANY else 1.0
        weights = [each if r[3] else 1.0 for r in mine]
        made[kernel] = regression([r[1] for r in mine], [r[2] for r in mine], weights)
    return made


def entry_table(sizes: Sequence[Sizes]) -> list[float]:
    """[constant, per call, per argument] of invoke, input and output."""
    x = np.array([[1, s.calls, s.arguments] for s in sizes], float)
    found, *_ = np.linalg.lstsq(x, np.array([s.entry for s in sizes], float), rcond=None)
    return [round(float(v), 3) for v in found]


def roomy(board: Board) -> Board:
    """The board with so much memory that everything fits; what it can address is another matter."""
    regions = tuple(
        replace(r, length=ROOM) if r.name in (board.layout.code, board.layout.data) else r
        for r in board.regions
    )
    chosen = tuple(r for r in regions if r.name in (board.layout.code, board.layout.data))
    return replace(board, regions=chosen)


def build(graph: Graph, board: Board) -> tuple[Library, building.Firmware]:
    """The image of the model on the board, nothing pinned."""
    wishes = Wishes(pin="none", pin_code="none")
    compiled = pipeline.lower(graph, board, pipeline.Options(PREFIX, wishes=wishes))
    files = {
        **compiled.library.files,
        **firmware_files([compiled.library], board, "0" * 16, compiled.placement),
    }
    with tempfile.TemporaryDirectory() as out:
        for path, text in files.items():
            target = Path(out) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return compiled.library, building.build(Path(out), board)


def firmware_table(graph: Graph, encoding: Encoding) -> dict[str, int]:
    """Bytes around a model: .text and .rodata besides it, the median over the boards with such a core."""
    texts, constants = [], []
    for board in all_boards():
        if code_size.encoding_of(board.cpu) != encoding:
            continue
        library, image = build(graph, roomy(board))
        texts.append(image.sections[".text"] - own_bytes(image, library))
        steps = code_size.STEP_BYTES * len(board.startup.steps)
        constants.append(image.sections[".rodata"] - library.constant_bytes - steps)
    return {"text": int(median(texts)), "rodata": int(median(constants))}


def dividing(real: Sequence[Sizes], random: Sequence[Sizes]) -> list[str]:
    """Templates whose code mostly calls the compiler's signed division: in the seven models, else in random ones."""
    answers: dict[str, list[bool]] = {}
    for sizes in (random, real):
        answers |= {
            kernel: [k[3] for m in sizes for k in m.kernels if k[0] == kernel]
            for kernel in {k[0] for m in sizes for k in m.kernels}
        }
    return sorted(kernel for kernel, told in answers.items() if 2 * sum(told) > len(told))


def division_bytes(real: dict[str, Graph], board: Board) -> int:
    """Bytes of the compiler's signed division where the core has none."""
    _, image = build(real["kws_ds_cnn"], roomy(board))
    return sum(s.size for n, s in image.symbols.items() if n in ("__divsi3", "__aeabi_idivmod"))


def mathematics_table(floats: dict[str, Graph], encoding: Encoding, firmware: int) -> dict[str, Any]:
    """Bytes of what float32 models call. arithmetic: of the compiler's, where the core has no FPU; functions: of the C
    library's, where one of `kernels` is there. firmware: bytes of the code around a model."""
    plain = max(called_bytes(floats["ad_autoencoder"], encoding, firmware), 0)
    both = called_bytes(floats["kws_ds_cnn"], encoding, firmware)
    return {"arithmetic": plain, "functions": both - plain, "kernels": list(MATHEMATICAL)}


def called_bytes(graph: Graph, encoding: Encoding, firmware: int) -> int:
    """Bytes of code in an image that are neither the model's own nor the firmware's."""
    library, image = build(graph, roomy(load_board(MEASURED[encoding])))
    return image.sections[".text"] - firmware - own_bytes(image, library)


def measured(graphs: Sequence[Graph], encoding: Encoding, wanted: Set[str] | None = None) -> list[Sizes]:
    """Every graph's kernels, compiled for one encoding. wanted: as in libraries_of."""
    shown = track(graphs, encoding, console=Console(stderr=True))
    return [measure(each, encoding) for g in shown for each in libraries_of(g, encoding, wanted)]


def write(real: dict[str, Graph]) -> None:
    """Measure everything, write tinygen/code_sizes.json."""
    floats = dict(real_graphs(final=FORMS["f32"]))
    seven = {
        "f32": [*floats.values()],
        "s16": [g for _, g in real_graphs(final=int16)],
        "s8": [*real.values()],
    }
    random = {form: list(random_graphs(final)) for form, final in FORMS.items()}
    data: dict[str, Any] = {"compiler": building.compiler_version()}
    for encoding in ENCODINGS:
        sizes = {f: (measured(seven[f], encoding), measured(random[f], encoding)) for f in FORMS}
        firmware = firmware_table(real["ceiling_fan_ae"], encoding)
        divides = sorted({kernel for f in ("s16", "s8") for kernel in dividing(*sizes[f])})
        data[encoding] = {
            "firmware": firmware,
            "entry": entry_table([*sizes["s8"][0], *sizes["s8"][1]]),
            "helpers": {
                "bytes": division_bytes(real, load_board(MEASURED[encoding])) if divides else 0,
                "kernels": divides,
            },
            "mathematics": mathematics_table(floats, encoding, firmware["text"]),
            "kernels": reduce(or_, (kernel_table(*sizes[f]) for f in FORMS)),
        }
    save(data)


def write_only(patterns: Sequence[str]) -> list[str]:
    """Measure the kernels of these names (* and ? as in the shell) anew; the rest of tinygen/code_sizes.json stays.
    Gives their names. Raises SystemExit when no operator has such a kernel or no measured model needs it."""
    names = {k.name for op in ops.OPS for k in op.kernels if not k.alias}
    wanted = {name for name in names if any(fnmatchcase(name, p) for p in patterns)}
    forms = {f: final for f, final in FORMS.items() if any(f"_{f}" in name for name in wanted)}
    graphs = {f: ([g for _, g in real_graphs(final=v)], list(random_graphs(v))) for f, v in forms.items()}
    data, found = {**code_size.table()}, set[str]()
    for encoding in ENCODINGS:
        for seven, random in graphs.values():
            sizes = [of_kernels(measured(g, encoding, wanted), wanted) for g in (seven, random)]
            found |= {name for part in sizes for s in part for name, *_ in s.kernels}
            if any(s.kernels for part in sizes for s in part):  # an encoding may have none of them
                data[encoding] = with_kernels(data[encoding], kernel_table(*sizes), dividing(*sizes))
    missing = wanted - found
    if missing or not wanted:
        raise SystemExit(f"no kernel {', '.join(sorted(missing) or patterns)} in any model; nothing written")
    save(data)
    return sorted(wanted)


def of_kernels(sizes: Sequence[Sizes], wanted: set[str]) -> list[Sizes]:
    """Without other kernels than these."""
    return [replace(s, kernels=tuple(k for k in s.kernels if k[0] in wanted)) for s in sizes]


def with_kernels(entry: dict[str, Any], made: dict[str, Any], divides: Sequence[str]) -> dict[str, Any]:
    """One encoding's entry with the coefficients of the kernels that were measured, and which of those divide."""
    measured = made.keys() - {ANY}
    others = [k for k in entry["helpers"]["kernels"] if k not in measured]
    helpers = {**entry["helpers"], "kernels": sorted({*others, *divides})}
    kernels = {**entry["kernels"], **{k: made[k] for k in measured}}
    any_last = dict(sorted(kernels.items(), key=lambda item: (item[0] == ANY, item[0])))
    return {**entry, "helpers": helpers, "kernels": any_last}


def save(data: dict[str, Any]) -> None:
    """Write tinygen/code_sizes.json."""
    code_size.TABLE.write_text(_json(data))
    code_size.table.cache_clear()


def _json(data: dict[str, Any]) -> str:
    """One kernel a line."""
    text = json.dumps(data, indent=2)
    return re.sub(r"[\[{]\s+([^\[\]{}]*(?:\[[^\[\]]*\][^\[\]{}]*)*?)\s+[\]}]", _on_one_line, text) + "\n"


def _on_one_line(match: re.Match[str]) -> str:
    return re.sub(r"\s+", " ", match[0]) if len(match[0]) < 400 else match[0]


# ---- the table


@dataclass(frozen=True)
class Row:
    """.text of one model on one board, in bytes."""

    model: str
    board: str
    estimate: int
    built: int

    @property
    def off(self) -> float:
        """Estimate / built - 1."""
        return self.estimate / self.built - 1


def compare(name: str, graph: Graph, board: Board) -> Row:
    """Estimate, then build."""
    library, image = build(graph, roomy(board))
    estimate = library.code_bytes + code_size.firmware_bytes(board).text
    return Row(name, board.name, estimate, image.sections[".text"])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="KERNEL", help="measure these only, as in '*_s16'")
    options = parser.parse_args()
    if options.only:
        print(f"measured: {', '.join(write_only(options.only))}")
        return 0
    real = dict(real_graphs())
    if options.write:
        write(real)
    rows = [compare(name, graph, load_board(b)) for name, graph in real.items() for b in BOARDS]
    table = Table("model", *(load_board(b).cpu for b in BOARDS), box=None, header_style="bold")
    for name in real:
        mine = [r for r in rows if r.model == name]
        table.add_row(name, *(f"{r.estimate:,} / {r.built:,} {100 * r.off:+.1f} %" for r in mine))
    Console(width=200).print(table)
    worst = max(rows, key=lambda r: abs(r.off))
    print(f"worst: {worst.model} on {worst.board}, {100 * worst.off:+.1f} %")
    return 1 if abs(worst.off) > BOUND else 0


if __name__ == "__main__":
    sys.exit(main())

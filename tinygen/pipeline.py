"""The compiler in one function: start reading here.

    load -> fuse -> calibrate -> quantize -> simplify -> schedule -> (bands) -> select -> plan -> verify -> emit
    -> place

In float32 (--precision float32) the stages from calibrate to simplify, which make and know int8, are left out.
Every stage is a pure function from frozen data to frozen data; loading and writing stand around this (api.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tinygen import bands, constant_channels, decisions, spec
from tinygen.boards import Board
from tinygen.calibration import calibrate
from tinygen.code_size import encoding_of
from tinygen.decisions import Decision, QuantizationReport
from tinygen.emission import Arena, Library, emit_library
from tinygen.errors import BoardError, TinygenError
from tinygen.firmware import needs_of
from tinygen.flash import check_flash
from tinygen.fusion import fuse
from tinygen.graph import Graph
from tinygen.placement import Placement, aligned, place
from tinygen.plan_check import verify
from tinygen.planning import MemoryPlan, plan
from tinygen.program import Program, select
from tinygen.quantization import quantize
from tinygen.samples import Samples
from tinygen.scheduling import schedule
from tinygen.selection import Choice, Optimize
from tinygen.simplification import simplify
from tinygen.wishes import Wishes, check_weights

Precision = Literal["int8", "float32"]
Report = Callable[[str, int, int], None]
"""(stage, done, total) -> None: progress of long stages."""


def silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class Options:
    """What a user may choose. name: C prefix. labels: class names of output 0. wishes: what is pinned where.

    home: what the project is for (homes.py). app: "plain", or "event" with two arenas for the example application.
    ci: whose workflow the project gets (ci.py). profile_on_device: the library takes a timestamp per layer.
    optimize: what a kernel's cycles and bytes weigh; kernels: (layer, kernel) that tuning chose (selection.py).
    precision: of activations and weights. activations, int16, max_drop: which layers of an int8 model compute in 16x8
    (decisions.Options).
    """

    name: str = "model"
    calibration: str = "auto"
    arena: Arena = "caller"
    labels: tuple[str, ...] = ()
    wishes: Wishes = field(default_factory=Wishes)
    home: str = "platformio"
    app: str = "plain"
    ci: str | None = None
    profile_on_device: bool = False
    precision: Precision = "int8"
    activations: decisions.Activations = "int8"
    int16: tuple[str, ...] = ()
    max_drop: float | None = None
    optimize: Optimize = "balanced"
    kernels: tuple[tuple[str, str], ...] = ()

    @property
    def choice(self) -> Choice:
        """What selection is told."""
        return Choice(self.optimize, self.kernels)

    @property
    def quantization(self) -> decisions.Options:
        """What quantization is told."""
        return decisions.Options(
            self.calibration, activations=self.activations, int16=self.int16, max_drop=self.max_drop
        )


@dataclass(frozen=True)
class Compiled:
    """Everything that compiling made. fused: the float graph that was quantized (None where nothing was).

    placement: None without a board. real: `fused` with its channels as the int8 graph had them before simplify took
    those away that Graph.removed lists (decisions.py).
    """

    graph: Graph
    fused: Graph | None
    decisions: tuple[Decision, ...]
    program: Program
    plan: MemoryPlan
    library: Library
    placement: Placement | None
    real: Graph | None = None


def is_quantized(graph: Graph) -> bool:
    """True for graphs whose inputs are int8 already (read from a .tflite file)."""
    return all(t.dtype == "int8" for t in graph.input_tensors)


def compile_graph(
    graph: Graph, samples: Samples | None, board: Board | None, options: Options, report: Report = silent
) -> Compiled:
    """Compile for one board. Raises as `compile_for`."""
    return compile_for(graph, samples, [board], options, report)[0]


def compile_for(
    graph: Graph,
    samples: Samples | None,
    boards: Sequence[Board | None],
    options: Options,
    report: Report = silent,
) -> list[Compiled]:
    """Compile a float graph (samples needed: the representative dataset) or an int8 graph for boards sharing a project.

    board None: portable C for any machine. Raises ModelError, DataError, BoardError.
    """
    if options.precision == "float32":
        return lower_final(float_program(graph), boards, options)
    fused: Graph | None = None
    real: Graph | None = None
    made: tuple[Decision, ...] = ()
    if not is_quantized(graph):
        assert samples is not None, "a float graph needs samples"
        fused = spec.check(fuse(spec.check(graph, quantized=False)), quantized=False)
        quantized = quantized_by(fused, samples, options.quantization, report)
        graph, real, made = quantized.graph, quantized.real, quantized.decisions
    return [replace(c, real=real) for c in lower_int8(graph, boards, options, fused, made)]


def lower_int8(
    graph: Graph,
    boards: Sequence[Board | None],
    options: Options,
    fused: Graph | None = None,
    made: tuple[Decision, ...] = (),
) -> list[Compiled]:
    """From the int8 graph to C for each board. made: what was decided before. Raises as `lower_final`."""
    simplified = final(graph)
    made += constant_channels.decisions(graph, simplified)
    return lower_final(simplified, boards, options, fused, made)


def lower_final(
    graph: Graph,
    boards: Sequence[Board | None],
    options: Options,
    fused: Graph | None = None,
    made: tuple[Decision, ...] = (),
) -> list[Compiled]:
    """From the final graph to C for each board: in bands of rows where the user asked for size, and where it fits the
    boards in no other way, then with the fewest nodes. Raises BoardError when it does not fit."""
    problems: list[BoardError] = []

    def attempt(arranged: Graph) -> list[Compiled] | None:
        banded = bands.decisions(graph, arranged)
        try:
            return [lower(arranged, board, options, fused, (*made, *banded)) for board in boards]
        except BoardError as error:
            problems.append(error)
            return None

    small = options.optimize == "size"
    result = None if small else attempt(graph)
    if result is None and (arranged := _arrangements(graph, boards[0], options)):
        result = bands.cheapest(arranged[-1:] if small else arranged, attempt)
    if result is None and small:
        result = attempt(graph)
    if result is None:
        raise _advised(problems[0], graph, boards, options)
    return result


def _advised(
    problem: BoardError, graph: Graph, boards: Sequence[Board | None], options: Options
) -> BoardError:
    """The error, and that balanced kernels would fit where they do: speed pays no heed to bytes."""
    if options.optimize != "speed":
        return problem
    try:
        for board in boards:
            lower(graph, board, replace(options, optimize="balanced"))
    except TinygenError:
        return problem
    return BoardError(f"{problem}\n  or take --optimize balanced, with which it fits")


def _arrangements(plain: Graph, board: Board | None, options: Options) -> tuple[Graph, ...]:
    """The final graph in bands (int8 alone), from few nodes to many. None where even the last needs no
    smaller arena with the board's own kernels: some work in place."""
    if options.precision != "int8" or not (found := bands.arrangements(plain)):
        return ()
    arenas = [plan(select(g, board, options.choice)).arena_bytes for g in (plain, found[-1])]
    return found if arenas[1] < arenas[0] else ()


def quantized_by(
    fused: Graph, samples: Samples, options: decisions.Options, report: Report = silent
) -> QuantizationReport:
    """The int8 graph of a fused float graph, from the representative samples."""
    seen = calibrate(fused, samples, progress=lambda done, total: report("calibrate", done, total))
    return quantize(fused, seen, options, lambda done, total: report("quantize", done, total))


def final(graph: Graph, proven: bool = True) -> Graph:
    """The int8 graph that a project holds: simplified, in the order of execution. proven: as `simplify` takes it."""
    return spec.check(schedule(simplify(spec.check(graph, quantized=True), proven)), quantized=True)


def float_program(graph: Graph) -> Graph:
    """The final float32 graph of a float graph: what a float32 project holds."""
    fused = spec.check(fuse(spec.check(graph, quantized=False)), quantized=False)
    return spec.check(schedule(fused), quantized=False)


def lower(
    graph: Graph,
    board: Board | None,
    options: Options,
    fused: Graph | None = None,
    made: tuple[Decision, ...] = (),
) -> Compiled:
    """From the final graph to C and its places in the board's memory. Raises BoardError when it does not fit."""
    program = select(graph, board, options.choice)
    memory = plan(program)
    verify(program, memory)
    encoding = encoding_of(board.cpu) if board else "thumb2"
    library = emit_library(
        program, memory, options.name, options.arena, options.labels, encoding, options.profile_on_device
    )
    if board:
        check_weights(options.wishes.weights, [board])
        check_flash(library, board, options.wishes)
    needs = needs_of([library])
    if options.app == "event":
        needs = replace(needs, arena=aligned(library.pair_bytes))
    placement = place(needs, board, options.wishes) if board else None
    return Compiled(graph, fused, made, program, memory, library, placement)

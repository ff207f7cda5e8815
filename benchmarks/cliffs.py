"""Cycles per multiply-accumulate over a sweep of shapes: no shape may cost much more than its nearest good one.

    python -m benchmarks.cliffs                         # all sweeps; writes docs/performance.md and its picture
    python -m benchmarks.cliffs --sweep pointwise-in    # one of them, seconds; --json F writes the figures

Cortex-M4, zero wait states, modelled; every output equals the reference. All shapes of a sweep stand side by side in
one image, each executed by its fastest kernel. Exit status 1 when a shape costs more than 1.6 times its nearest good
shape, per MAC. A second ratio allows for what every output costs whatever it sums up (requantization and store,
OUTPUT_CYCLES): it tells a cliff of the kernel from sums that are too short; nothing is judged by it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.kernel_targets import M4
from benchmarks.tables import markdown, replace_section
from tinygen import ops
from tinygen.boards import load_board
from tinygen.fit import assumed_int8
from tinygen.graph import Graph, GraphBuilder
from tinygen.ops import conv2d, dense, depthwise_conv2d
from tinygen.ops.windows import VALID, Padding
from tinygen.program import select
from tinygen.selection import Choice
from tinygen.tuning.counting import followed, roomy

LIMIT = 1.6
OUTPUT_CYCLES = 12
"""Requantization (about 10: SMMULR, two ADD, ASR, ADD, SSAT and what they load), and a store."""
SIDE = 10
"""Height and width of images."""
DOCS = Path(__file__).resolve().parents[1] / "docs"
PICTURE = "images/cliffs.png"
COUNTS = (*range(1, 18), *range(19, 66, 4), 21, 24, 32, 33, 48, 64, 65)
"""Numbers of channels: all to 17, then odd ones to 65 and some that are not."""
SIZES = (1, 3, 5, 7)


@dataclass(frozen=True)
class Shape:
    """One node. x: where it stands in its sweep. good: what the others are compared with."""

    name: str
    x: int
    good: bool
    add: Callable[[GraphBuilder, str], None]


@dataclass(frozen=True)
class Point:
    """What a shape took. per_output: cycles; ratio: to the nearest good shape, per MAC; allowed: with what every output
    costs allowed for."""

    sweep: str
    shape: str
    x: int
    good: bool
    kernel: str
    macs: int
    outputs: int
    cycles: int
    ratio: float = 1.0
    allowed: float = 1.0

    @property
    def per_mac(self) -> float:
        return self.cycles / self.macs

    @property
    def per_output(self) -> float:
        return self.cycles / self.outputs


# ---- shapes


def random(*shape: int) -> np.ndarray:
    """Weights: their values hardly matter."""
    rng = np.random.default_rng(sum(shape))
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) + 1)).astype(np.float32)


def same(kernel: int, dilation: int = 1) -> Padding:
    """As much padding as keeps the size at stride 1."""
    half = dilation * (kernel - 1) // 2
    return Padding(half, half, half, half)


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, padding: Padding | None = None
) -> Callable[[GraphBuilder, str], None]:
    """A square convolution over an image of SIDE."""
    around = same(kernel, dilation) if padding is None else padding
    attrs = conv2d.Attrs((stride, stride), (dilation, dilation), around)
    return _node("conv2d", (SIDE, SIDE, inputs), random(outputs, kernel, kernel, inputs), outputs, attrs)


def depthwise(
    channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, padding: Padding | None = None
) -> Callable[[GraphBuilder, str], None]:
    """A square depthwise convolution."""
    around = same(kernel, dilation) if padding is None else padding
    attrs = depthwise_conv2d.Attrs((stride, stride), (dilation, dilation), around)
    return _node(
        "depthwise_conv2d", (SIDE, SIDE, channels), random(kernel, kernel, channels), channels, attrs
    )


def product(inputs: int, outputs: int) -> Callable[[GraphBuilder, str], None]:
    """A dense layer."""
    return _node("dense", (inputs,), random(outputs, inputs), outputs, dense.Attrs())


def _node(
    op: str, shape: tuple[int, ...], weights: np.ndarray, outputs: int, attrs: object
) -> Callable[[GraphBuilder, str], None]:
    def add(builder: GraphBuilder, name: str) -> None:
        x = builder.input(f"{name}/in", shape)
        constants = (
            builder.constant(f"{name}/weights", weights),
            builder.constant(f"{name}/bias", random(outputs)),
        )
        builder.add(op, name, (x, *constants), attrs)

    return add


def by_count(make: Callable[[int], Callable[[GraphBuilder, str], None]], good: int = 4) -> list[Shape]:
    """A shape per number of channels; multiples of `good` are good."""
    return [Shape(str(n), n, n % good == 0, make(n)) for n in sorted(set(COUNTS))]


def windows(make: Callable[..., Callable[[GraphBuilder, str], None]]) -> list[Shape]:
    """Kernel sizes, then strides, dilation and padding of 3x3; the plain 3x3 is good."""
    shapes = [Shape(f"{k}x{k}", k, k == 3, make(kernel=k)) for k in SIZES if k > 1]
    shapes += [Shape(f"3x3 stride {s}", 10 + s, False, make(kernel=3, stride=s)) for s in (2, 3)]
    shapes.append(Shape("3x3 dilation 2", 14, False, make(kernel=3, dilation=2)))
    shapes += [Shape(f"{k}x{k} valid", 15 + k, False, make(kernel=k, padding=VALID)) for k in SIZES if k > 1]
    return shapes


SWEEPS: Mapping[str, Callable[[], list[Shape]]] = {
    "pointwise-in": lambda: by_count(lambda n: convolution(n, 16, 1)),
    "pointwise-out": lambda: by_count(lambda n: convolution(32, n, 1)),
    "conv3x3-in": lambda: by_count(lambda n: convolution(n, 16, 3)),
    "conv3x3-out": lambda: by_count(lambda n: convolution(16, n, 3)),
    "conv-window": lambda: windows(lambda **w: convolution(16, 16, **w)),
    "depthwise-channels": lambda: by_count(lambda n: depthwise(n)),
    "depthwise-window": lambda: windows(lambda **w: depthwise(16, **w)),
    "dense-in": lambda: by_count(lambda n: product(n, 32)),
    "dense-out": lambda: by_count(lambda n: product(64, n)),
}


# ---- counting


def graph_of(shapes: Sequence[Shape]) -> Graph:
    """All shapes side by side, int8."""
    builder = GraphBuilder("sweep")
    for i, shape in enumerate(shapes):
        shape.add(builder, f"s{i}")
    return assumed_int8(builder.build(tuple(f"s{i}" for i in range(len(shapes)))))


def counted(sweep: str) -> list[Point]:
    """The points of a sweep."""
    shapes, board = SWEEPS[sweep](), roomy(load_board(M4))
    program = select(graph_of(shapes), board, Choice("speed"))
    profile, _ = followed(program, board)
    points = []
    for shape, step, layer in zip(shapes, program.steps, profile.layers, strict=True):
        b, cycles = step.bound, layer.cost.zero_wait_cycles
        assert cycles is not None
        macs = ops.get(b.node.op).macs(b)
        point = (sweep, shape.name, shape.x, shape.good, step.kernel.name, macs, b.output.elements, cycles)
        points.append(Point(*point))
    return compared(points)


def compared(points: Sequence[Point]) -> list[Point]:
    """Every point with its ratios to the nearest good one."""
    good = [p for p in points if p.good]
    made = []
    for p in points:
        near = min(good, key=lambda g: (abs(g.x - p.x), -g.x))
        fixed = min(OUTPUT_CYCLES, near.per_output)
        per_product = (near.per_output - fixed) / (near.macs / near.outputs)
        expected = fixed + per_product * p.macs / p.outputs
        raw = p.per_mac / near.per_mac
        made.append(
            replace(p, ratio=1.0 if p.good else raw, allowed=1.0 if p.good else p.per_output / expected)
        )
    return made


# ---- pages


TITLES = (
    "sweep",
    "shapes",
    "best per MAC",
    "worst shape",
    "its kernel",
    "per MAC",
    "ratio",
    "allowing for outputs",
    "",
)


def rows(points: Sequence[Point]) -> list[list[str]]:
    """A row per sweep: its best shape, and the worst."""
    found = []
    for sweep in dict.fromkeys(p.sweep for p in points):
        own = [p for p in points if p.sweep == sweep]
        worst, best = max(own, key=lambda p: p.ratio), min(p.per_mac for p in own)
        figures = (f"{worst.per_mac:.2f}", f"{worst.ratio:.2f}", f"{worst.allowed:.2f}")
        verdict = "CLIFF" if worst.ratio > LIMIT else "inside"
        found.append([sweep, str(len(own)), f"{best:.2f}", worst.shape, worst.kernel, *figures, verdict])
    return found


def draw(points: Sequence[Point], path: Path) -> None:
    """One panel per sweep: cycles per MAC over the number of channels, or over the window."""
    import altair as alt

    data = [{**asdict(p), "per_mac": p.per_mac, "cliff": p.ratio > LIMIT} for p in points]
    panels = []
    for sweep in dict.fromkeys(p.sweep for p in points):
        own = alt.Data(values=[d for d in data if d["sweep"] == sweep])
        by_name = sweep.endswith("window")
        x = alt.X("shape:N", sort=None, title=None) if by_name else alt.X("x:Q", title="channels")
        y = alt.Y("per_mac:Q", title="cycles per MAC", scale=alt.Scale(domainMin=0))
        color = alt.Color("cliff:N", legend=None).scale(domain=[False, True], range=["#2b6cb0", "#c2410c"])
        dots = alt.Chart(own, title=sweep, width=300, height=170).mark_point(filled=True, size=34)
        panels.append(dots.encode(x=x, y=y, color=color))
    path.parent.mkdir(parents=True, exist_ok=True)
    alt.concat(*panels, columns=3).configure(background="white").save(str(path), scale_factor=1.0)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweep", action="append", choices=tuple(SWEEPS), help="[default: all]")
    parser.add_argument("--json", type=Path, metavar="F", help="write every point there")
    options = parser.parse_args()
    chosen = options.sweep or list(SWEEPS)
    shown = track(chosen, "sweeps", console=Console(stderr=True), transient=True)
    points = [p for sweep in shown for p in counted(sweep)]
    if options.json:
        figures = [{**asdict(p), "cycles_per_mac": p.per_mac} for p in points]
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    table = Table(*TITLES, box=None, header_style="bold")
    for row in rows(points):
        table.add_row(*row)
    Console(width=150).print(table)
    if not options.sweep:
        replace_section(DOCS / "performance.md", "cliffs", markdown(TITLES, rows(points)))
        draw(points, DOCS / PICTURE)
    cliffs = [p for p in points if p.ratio > LIMIT]
    for p in cliffs:
        print(f"cliff: {p.sweep} {p.shape}: {p.per_mac:.2f} per MAC, {p.ratio:.2f} times", file=sys.stderr)
    return 1 if cliffs else 0


if __name__ == "__main__":
    sys.exit(main())

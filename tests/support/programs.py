"""Small programs for tests of the memory planner: toy operators of any size, aliases, in-place, scratch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tinygen.graph import BoundNode, Graph, Node, QParams, Tensor
from tinygen.lifetimes import aligned
from tinygen.ops.base import Kernel
from tinygen.program import Program, Step

Q = QParams.per_tensor(0.1, 0)


@dataclass(frozen=True)
class Toy:
    """One step: the output is `name`. in_place: inputs the kernel may overwrite. joins, view: as Kernel's."""

    name: str
    inputs: tuple[str, ...]
    size: int
    alias: bool = False
    in_place: tuple[int, ...] = ()
    scratch: int = 0
    joins: tuple[tuple[int, int], ...] = ()
    view: int | None = None


def toy_program(inputs: Sequence[tuple[str, int]], toys: Sequence[Toy], outputs: Sequence[str]) -> Program:
    """A program whose steps do nothing but have the sizes and rules given."""
    tensors = {name: Tensor(name, (size,), "int8", Q) for name, size in inputs}
    tensors.update((toy.name, Tensor(toy.name, (toy.size,), "int8", Q)) for toy in toys)
    nodes = [Node("reshape" if t.alias else "toy", t.name, t.inputs, t.name, None) for t in toys]
    graph = Graph("toy", tuple(nodes), tensors, tuple(n for n, _ in inputs), tuple(outputs))
    return Program(graph, tuple(_step(graph.bind(n), toy) for n, toy in zip(nodes, toys, strict=True)))


def _step(bound: BoundNode, toy: Toy) -> Step:
    kernel = Kernel(
        f"tg_{toy.name}_s8",
        lambda b: 0.0,
        in_place=lambda b: toy.in_place,
        joins=lambda b: toy.joins,
        view=lambda b: toy.view,
        alias=toy.alias,
    )
    return Step(bound, kernel, toy.scratch)


def random_toys(seed: int, steps: int, largest: int = 400) -> Program:
    """A random program: branches, chains, aliases, in-place steps, joins, views, scratch, several inputs, outputs."""
    r = random.Random(seed)
    sizes = {f"in{i}": _size(r, largest) for i in range(r.randint(1, 3))}
    inputs = list(sizes.items())
    toys = []
    for number in range(steps):
        toy = _random_toy(r, f"t{number}", sizes, largest)
        sizes[toy.name] = toy.size
        toys.append(toy)
    read = {name for toy in toys for name in toy.inputs}
    outputs = [n for n in sizes if n not in read and r.random() < 0.9] or [toys[-1].name]
    outputs += [n for n in sizes if n not in outputs and r.random() < 0.05]
    return toy_program(inputs, toys, outputs)


def joining(name: str, parts: tuple[str, ...], sizes: Mapping[str, int]) -> Toy:
    """Parts behind one another; those at whole words may stand there already."""
    ends = list(accumulate(sizes[part] for part in parts))
    starts = [0, *ends[:-1]]
    joins = tuple((i, s) for i, (s, e) in enumerate(zip(starts, ends, strict=True)) if s % 4 == e % 4 == 0)
    return Toy(name, parts, ends[-1], joins=joins)


def viewing(name: str, source: str, size: int, start: int, r: random.Random) -> Toy:
    """A part of something from `start` on."""
    length = r.randint(1, size - start)
    return Toy(name, (source,), length, in_place=(0,), view=start if start % 4 == 0 else None)


def _random_toy(r: random.Random, name: str, sizes: dict[str, int], largest: int) -> Toy:
    recent = list(sizes)[-r.choice((1, 2, 3, 8)) :]
    first = r.choice(recent)
    kind = r.random()
    if kind < 0.15:
        return Toy(name, (first,), sizes[first], alias=True)
    if kind < 0.25:
        return joining(name, tuple({first: 0, **dict.fromkeys(r.choices(list(sizes)[-6:], k=2))}), sizes)
    if kind < 0.35 and sizes[first] > 4:
        return viewing(name, first, sizes[first], r.randrange(0, sizes[first] - 1), r)
    scratch = r.randint(1, largest) if r.random() < 0.1 else 0
    if kind < 0.6:
        others = [n for n in sizes if sizes[n] == sizes[first]][-3:]
        inputs = tuple(dict.fromkeys((first, r.choice(others))))[: r.choice((1, 2))]
        permitted = tuple(i for i in range(len(inputs)) if r.random() < 0.8)
        return Toy(name, inputs, sizes[first], in_place=permitted, scratch=scratch)
    inputs = tuple(dict.fromkeys((first, *r.sample(list(sizes), r.choice((0, 0, 0, 1))))))
    return Toy(name, inputs, _size(r, largest), scratch=scratch)


def _size(r: random.Random, largest: int) -> int:
    """Bytes; half of them whole words."""
    size = r.randint(1, largest)
    return aligned(size) if r.random() < 0.5 else size

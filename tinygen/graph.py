"""The intermediate representation: frozen data that every stage takes and returns.

Shapes never hold the batch dimension: the firmware runs one sample at a time. Arrays of *activations* that are
passed to the evaluators do have a leading batch dimension (N, *shape); arrays of *constants* have none.
Layouts are channels last: (height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Array = npt.NDArray[Any]
DType = Literal["float32", "int8", "int16", "int32", "int64"]
Origin = tuple[str, ...]


def little_endian(array: Array) -> bytes:
    """The array's bytes as the cores store them."""
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


@dataclass(frozen=True)
class QParams:
    """Affine quantization: real = scale * (q - zero_point).

    One scale and zero_point for the tensor (axis None), or one per index of `axis` (zero_point then all 0).
    bits: 8, or 16 for activations of the 16x8 scheme (docs/numerics.md), whose zero_point is 0.
    Scales are kept at float32 precision, as TFLite files store them, so that an exported file computes the same
    multipliers.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(float(np.float32(s)) for s in self.scale))
        object.__setattr__(self, "zero_point", tuple(int(z) for z in self.zero_point))
        assert len(self.scale) == len(self.zero_point) and all(s > 0 for s in self.scale), self
        assert self.axis is not None or len(self.scale) == 1, self
        assert self.bits == 8 or (self.bits == 16 and not any(self.zero_point)), self

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int) -> QParams:
        """One scale and zero_point for the whole tensor."""
        return cls((float(scale),), (int(zero_point),))

    @classmethod
    def int16(cls, scale: float) -> QParams:
        """One scale for a tensor of 16 bits, whose zero_point is always 0."""
        return cls((float(scale),), (0,), None, 16)

    @property
    def dtype(self) -> DType:
        """Type of an activation with these parameters."""
        return "int8" if self.bits == 8 else "int16"

    @property
    def low(self) -> int:
        """The lowest integer: -128 or -32,768."""
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        """The highest integer: 127 or 32,767."""
        return (1 << (self.bits - 1)) - 1

    def narrowed(self, integers: Array) -> Array:
        """Integers saturated to the type."""
        return np.asarray(np.clip(integers, self.low, self.high).astype(self.dtype))

    def quantize(self, real: Array) -> Array:
        """Per tensor: nearest integer (halves away from zero, as TFLite rounds), saturated."""
        assert self.axis is None
        scaled = np.asarray(real, np.float64) / self.scale[0]
        return self.narrowed(np.trunc(scaled + np.copysign(0.5, scaled)) + self.zero_point[0])

    def dequantize(self, q: Array) -> Array:
        """Real values (float64) of the integers q; per-channel scales run along `axis` of q."""
        if self.axis is None:
            real: Array = (q.astype(np.float64) - self.zero_point[0]) * self.scale[0]
            return real
        scale = np.expand_dims(np.array(self.scale), [a for a in range(q.ndim) if a != self.axis % q.ndim])
        channels: Array = q.astype(np.float64) * scale
        return channels


@dataclass(frozen=True)
class Tensor:
    """A named value. `data` is set for constants only. `qparams` is set from the quantize stage on."""

    name: str
    shape: Shape
    dtype: DType = "float32"
    qparams: QParams | None = None
    data: Array | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.data is not None:
            assert self.data.shape == self.shape, (self.name, self.data.shape, self.shape)
            assert self.data.dtype == np.dtype(self.dtype), (self.name, self.data.dtype, self.dtype)
            self.data.flags.writeable = False

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @cached_property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return int(np.dtype(self.dtype).itemsize)

    @cached_property
    def size_bytes(self) -> int:
        return self.elements * self.itemsize

    @property
    def q(self) -> QParams:
        """qparams of a tensor that must be quantized by now."""
        assert self.qparams is not None, f"tensor '{self.name}' is not quantized"
        return self.qparams

    @property
    def scale(self) -> float:
        """Scale of a tensor that is quantized per tensor."""
        assert self.q.axis is None
        return self.q.scale[0]

    @property
    def zero_point(self) -> int:
        """zero_point of a tensor that is quantized per tensor."""
        assert self.q.axis is None
        return self.q.zero_point[0]


@dataclass(frozen=True)
class Node:
    """One operator applied to named tensors. `inputs` lists activations and constants in the operator's order.

    `name` is the layer's name as the user knows it (unique in the graph).
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attrs: Any


@dataclass(frozen=True)
class BoundNode:
    """A node with its tensors at hand: what every operator function takes."""

    node: Node
    inputs: tuple[Tensor, ...]
    output: Tensor

    @property
    def attrs(self) -> Any:
        return self.node.attrs

    @property
    def name(self) -> str:
        return self.node.name

    @cached_property
    def activations(self) -> tuple[Tensor, ...]:
        """The inputs that are not constants."""
        return tuple(t for t in self.inputs if not t.is_constant)


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order with their tensors. Checked by spec.check between stages.

    origins: what a Keras model holds once -> every tensor that it became (several where a layer is shared). A key is
    the path of a layer (names, outermost model's first) and a role, as ("encoder", "conv", "weights"). True of the
    graph as it was loaded: later stages rename and replace tensors.
    removed: activation -> the channels (indices along the last axis, ascending) that it had when it was quantized, or
    read from a file, and that simplify has taken away.
    """

    name: str
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origins: Mapping[Origin, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)
    removed: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))

    def bind(self, node: Node) -> BoundNode:
        """The node with its tensors."""
        return BoundNode(node, tuple(self.tensors[i] for i in node.inputs), self.tensors[node.output])

    def bound(self) -> tuple[BoundNode, ...]:
        """All nodes, bound, in execution order."""
        return tuple(self.bind(n) for n in self.nodes)

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """Tensor name -> the node that writes it."""
        return {n.output: n for n in self.nodes}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """Tensor name -> the nodes that read it, in execution order (each once)."""
        readers: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @property
    def input_tensors(self) -> tuple[Tensor, ...]:
        return tuple(self.tensors[i] for i in self.inputs)

    @property
    def precision(self) -> DType:
        """Type of its inputs and outputs: int8, or float32 before quantize and in float programs."""
        return self.tensors[self.inputs[0]].dtype

    @property
    def output_tensors(self) -> tuple[Tensor, ...]:
        return tuple(self.tensors[o] for o in self.outputs)

    def writer(self, tensor: str) -> Node | None:
        """The node that computes the tensor's values, behind requantizations; None for a graph input."""
        node = self.producers.get(tensor)
        while node is not None and node.op == "requantize" and node.inputs[0] in self.producers:
            node = self.producers[node.inputs[0]]
        return node

    def evolve(self, **changes: Any) -> Graph:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def pruned(self) -> Graph:
        """A copy without tensors that no node, input or output names."""
        used = {*self.inputs, *self.outputs}
        for node in self.nodes:
            used.update(node.inputs, (node.output,))
        return self.evolve(tensors={k: t for k, t in self.tensors.items() if k in used})


class GraphBuilder:
    """Makes a Graph node by node: names are kept unique and output shapes inferred by the operators."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[Node] = []
        self._tensors: dict[str, Tensor] = {}
        self._inputs: list[str] = []
        self._names: set[str] = set()
        self._origins: dict[Origin, list[str]] = {}
        self.path: Origin = ()

    @contextmanager
    def inside(self, path: Origin) -> Iterator[None]:
        """Meanwhile constants and records belong to the Keras layer of this path."""
        outer, self.path = self.path, path
        yield
        self.path = outer

    def record(self, role: str, tensor: str) -> None:
        """Note down that the layer at hand determines this tensor's channels."""
        self._origins.setdefault((*self.path, role), []).append(tensor)

    def input(self, name: str, shape: Shape, qparams: QParams | None = None) -> str:
        """Declare a graph input; returns its tensor's name."""
        unique = self._unique(name)
        self._tensors[unique] = Tensor(unique, tuple(shape), qparams.dtype if qparams else "float32", qparams)
        self._inputs.append(unique)
        return unique

    def constant(self, name: str, data: Array, qparams: QParams | None = None) -> str:
        """Add a constant (float64 is narrowed to float32); returns its tensor's name."""
        data = np.array(data, dtype=np.float32 if np.issubdtype(data.dtype, np.floating) else data.dtype)
        unique = self._unique(name)
        self._tensors[unique] = Tensor(unique, data.shape, data.dtype.name, qparams, data)  # type: ignore[arg-type]
        self.record(name.rpartition("/")[2], unique)
        return unique

    def add(
        self, op: str, name: str, inputs: tuple[str, ...], attrs: Any, qparams: QParams | None = None
    ) -> str:
        """Append a node after checking its constraints; returns its output tensor's name (the node's own name)."""
        from tinygen import ops

        unique = self._unique(name)
        operator = ops.get(op)
        bound_inputs = tuple(self._tensors[i] for i in inputs)
        shape = operator.infer(attrs, tuple(t.shape for t in bound_inputs))
        output = Tensor(unique, shape, qparams.dtype if qparams else "float32", qparams)
        node = Node(op, unique, tuple(inputs), unique, attrs)
        operator.check(BoundNode(node, bound_inputs, output))
        self._tensors[unique] = output
        self._nodes.append(node)
        return unique

    def shape(self, tensor: str) -> Shape:
        """Shape (without batch) of a tensor added so far."""
        return self._tensors[tensor].shape

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name]

    def build(self, outputs: tuple[str, ...]) -> Graph:
        """The finished graph."""
        origins = {key: tuple(names) for key, names in self._origins.items()}
        inputs, nodes = tuple(self._inputs), tuple(self._nodes)
        return Graph(self.name, nodes, self._tensors, inputs, tuple(outputs), origins).pruned()

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._names:
            candidate, count = f"{name}_{count}", count + 1
        self._names.add(candidate)
        return candidate

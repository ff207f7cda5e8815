"""Graph <-> JSON text: a project carries its final graph, so that `run` and `inspect` need no model file.

Arrays are base64 of their little-endian bytes. Equal graphs give equal text.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import types
import typing
from typing import Any

import numpy as np

from tinygen import ops, spec
from tinygen.errors import ModelError
from tinygen.graph import Array, Graph, Node, QParams, Tensor, little_endian

FORMAT = 1


def graph_to_json(graph: Graph) -> str:
    """Deterministic JSON text of a graph, one tensor or node a line."""
    head = {"format": FORMAT, "name": graph.name, "inputs": graph.inputs, "outputs": graph.outputs}
    lines = [json.dumps(head)[:-1] + ',\n"tensors": [']
    lines.append(",\n".join(json.dumps(_tensor(t)) for t in graph.tensors.values()))
    lines.append('],\n"nodes": [')
    lines.append(",\n".join(json.dumps(dataclasses.asdict(n)) for n in graph.nodes))
    lines.append("]}\n")
    return "\n".join(lines)


def graph_from_json(text: str, source: str = "graph.json") -> Graph:
    """The graph of graph_to_json; ModelError naming `source` when the text is damaged."""
    try:
        data = json.loads(text)
        tensors = {t["name"]: _read_tensor(t) for t in data["tensors"]}
        nodes = tuple(_read_node(n) for n in data["nodes"])
        graph = Graph(data["name"], nodes, tensors, tuple(data["inputs"]), tuple(data["outputs"]))
        return spec.check(graph, quantized=graph.precision != "float32")
    except (ValueError, KeyError, TypeError, AssertionError, AttributeError, IndexError) as problem:
        raise ModelError(
            f"'{source}' is not a graph that this tinygen wrote ({type(problem).__name__}: {problem})\n"
            "  generate the project again with 'tinygen compile'"
        ) from problem


def _tensor(t: Tensor) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": t.name, "shape": t.shape, "dtype": t.dtype}
    if t.qparams is not None:
        fields["qparams"] = _qparams(t.qparams)
    if t.data is not None:
        fields["data"] = base64.b64encode(little_endian(t.data)).decode()
    return fields


def _qparams(q: QParams) -> dict[str, Any]:
    """Fields; `bits` only where they are not 8, so that int8 projects stay what they were."""
    fields = dataclasses.asdict(q)
    if q.bits == 8:
        del fields["bits"]
    return fields


def _read_tensor(fields: dict[str, Any]) -> Tensor:
    q = fields.get("qparams")
    qparams = (
        QParams(**{**q, "scale": tuple(q["scale"]), "zero_point": tuple(q["zero_point"])}) if q else None
    )
    shape = tuple(fields["shape"])
    return Tensor(fields["name"], shape, fields["dtype"], qparams, _read_array(fields, shape))


def _read_array(fields: dict[str, Any], shape: tuple[int, ...]) -> Array | None:
    if "data" not in fields:
        return None
    raw = np.frombuffer(
        base64.b64decode(fields["data"], validate=True), np.dtype(fields["dtype"]).newbyteorder("<")
    )
    return raw.astype(fields["dtype"]).reshape(shape)


def _read_node(fields: dict[str, Any]) -> Node:
    attrs = read_dataclass(ops.get(fields["op"]).attrs, fields["attrs"])
    return Node(fields["op"], fields["name"], tuple(fields["inputs"]), fields["output"], attrs)


def read_dataclass(kind: type, fields: dict[str, Any]) -> Any:
    """An instance of a frozen dataclass from its asdict: lists become tuples, nested dataclasses are rebuilt."""
    hints = typing.get_type_hints(kind)
    names = {f.name for f in dataclasses.fields(kind)}
    if set(fields) != names:
        raise ValueError(f"{kind.__name__} has fields {sorted(names)}, found {sorted(fields)}")
    return kind(**{name: _read_value(hints[name], value) for name, value in fields.items()})


def _read_value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [a for a in typing.get_args(hint) if a is not type(None)]
        return _read_value(options[0], value)
    if dataclasses.is_dataclass(hint):
        return read_dataclass(hint, value)  # type: ignore[arg-type]
    if isinstance(value, list):
        arguments = typing.get_args(hint)
        if arguments and arguments[-1] is Ellipsis:
            return tuple(_read_value(arguments[0], v) for v in value)
        return tuple(_read_value(h, v) for h, v in zip(arguments, value, strict=True))
    return _read_plain(hint, value)


def _read_plain(hint: Any, value: Any) -> Any:
    """A number, text or one of a few; what the field cannot hold is refused."""
    if hint is float and isinstance(value, int | float):
        return float(value)
    origin = typing.get_origin(hint)
    wrong = hint in (int, float, str, bool) and type(value) is not hint
    wrong |= origin is tuple or (origin is typing.Literal and value not in typing.get_args(hint))
    if wrong:
        raise ValueError(f"{value!r} is not {getattr(hint, '__name__', hint)}")
    return value

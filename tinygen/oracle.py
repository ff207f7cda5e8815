"""LiteRT as the oracle: runs .tflite files with its built-in reference kernels (BUILTIN_REF).

Never the default delegate: XNNPACK's results differ from the reference kernels by up to 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinygen.errors import ModelError, ToolError
from tinygen.evaluate import chunked
from tinygen.graph import Array

CHUNK = 64
"""Samples that LiteRT gets at once: bounds its memory."""


def run_litert(model: bytes, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs (N, *shape) of a .tflite file for one int8 array (N, *shape) per input, in the file's order.

    Raises ToolError when LiteRT is missing, ModelError when it refuses the file.
    """
    session = _Session(model, preserve=False)
    return chunked(session.run, inputs, CHUNK)


def run_litert_layers(model: bytes, inputs: Sequence[Array]) -> Mapping[str, Array]:
    """Every activation of the file by its tensor's name: (N, *shape) each, graph inputs included."""
    session = _Session(model, preserve=True)
    columns = chunked(lambda xs: session.run(xs, session.activations), inputs, CHUNK)
    return dict(zip((session.name(t) for t in session.activations), columns, strict=True))


def run_litert_indexed(model: bytes, inputs: Sequence[Array]) -> Mapping[int, Array]:
    """As run_litert_layers, by tensor index: names in a file need not be unique."""
    session = _Session(model, preserve=True)
    columns = chunked(lambda xs: session.run(xs, session.activations), inputs, CHUNK)
    return dict(zip(session.activations, columns, strict=True))


class _Session:
    """One interpreter. Runs whole batches where the file's operators allow it, else sample by sample."""

    def __init__(self, model: bytes, preserve: bool) -> None:
        self._model, self._preserve = model, preserve
        self._single = self._interpreter()
        self._batched: tuple[int, Any] | None = None
        self._can_batch = True
        self.inputs = [int(d["index"]) for d in self._single.get_input_details()]
        self.outputs = [int(d["index"]) for d in self._single.get_output_details()]
        # The reference resolver applies no delegate, so these operators are those of the file.
        self.written = [int(t) for op in self._single._get_ops_details() for t in op["outputs"]]
        self.activations = list(dict.fromkeys([*self.inputs, *self.written]))

    def name(self, tensor: int) -> str:
        """Name of the tensor of that index."""
        return str(self._single._get_tensor_details(tensor, 0)["name"])

    def run(self, inputs: Sequence[Array], wanted: Sequence[int] | None = None) -> tuple[Array, ...]:
        """The wanted tensors (default: the outputs) of a batch."""
        tensors = self.outputs if wanted is None else wanted
        count = len(inputs[0])
        interpreter = self._for_batch(count) if count > 1 else None
        if interpreter is not None:
            return self._invoke(interpreter, inputs, tensors)
        rows = [self._invoke(self._single, [x[i : i + 1] for x in inputs], tensors) for i in range(count)]
        return tuple(np.concatenate(column) for column in zip(*rows, strict=True))

    def _for_batch(self, count: int) -> Any | None:
        """An interpreter resized to `count` samples; None when an operator's shapes are fixed at batch 1."""
        if self._batched is not None and self._batched[0] == count:
            return self._batched[1]
        if not self._can_batch:
            return None
        interpreter = self._resized(count)
        if interpreter is None or not self._all_batched(interpreter, count):
            self._can_batch = False
            return None
        self._batched = (count, interpreter)
        return interpreter

    def _all_batched(self, interpreter: Any, count: int) -> bool:
        """True when every activation has `count` as its first dimension and none is broadcast along it.

        Activations of different rank in one operator would be aligned at their last axes: batch to height.
        """
        shape = {t: interpreter._get_tensor_details(t, 0)["shape"] for t in self.activations}
        for op in interpreter._get_ops_details():
            read = {len(shape[int(t)]) for t in op["inputs"] if int(t) in shape}
            if len(read) > 1:
                return False
        return all(len(s) > 0 and s[0] == count for s in shape.values())

    def _interpreter(self) -> Any:
        """A new interpreter at batch 1."""
        module = _module()
        try:
            interpreter = module.Interpreter(
                model_content=self._model,
                experimental_op_resolver_type=module.OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=self._preserve,
            )
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT refuses the .tflite file: {_last_line(error)}") from error
        return interpreter

    def _resized(self, count: int) -> Any | None:
        """A new interpreter at batch `count`; None when LiteRT cannot resize the file."""
        interpreter = self._interpreter()
        try:
            for detail in interpreter.get_input_details():
                interpreter.resize_tensor_input(detail["index"], [count, *detail["shape"][1:].tolist()])
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError):
            return None
        return interpreter

    def _invoke(self, interpreter: Any, inputs: Sequence[Array], wanted: Sequence[int]) -> tuple[Array, ...]:
        for index, x in zip(self.inputs, inputs, strict=True):
            interpreter.set_tensor(index, np.ascontiguousarray(x))
        interpreter.invoke()
        return tuple(interpreter.get_tensor(t) for t in wanted)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _module() -> Any:
    """ai_edge_litert.interpreter, imported when first needed."""
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        message = "LiteRT is missing: it judges the int8 reference\n  pip install ai-edge-litert"
        raise ToolError(message) from error
    return interpreter

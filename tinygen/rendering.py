"""A kernel's C for one node: its template with the node's numbers."""

from __future__ import annotations

from tinygen import ops
from tinygen.ctext import C_TYPES, environment
from tinygen.graph import BoundNode
from tinygen.ops.base import Kernel

NAME = "@FN@"
"""Stands for the function's name: nodes with the same body share a function."""


def body_of(kernel: Kernel, b: BoundNode) -> str:
    """The function of a kernel for a node, as C."""
    template = environment().get_template(f"kernels/{kernel.template or kernel.name}.c.j2")
    params = (kernel.params or ops.get(b.node.op).params)(b)
    return template.render(fn=NAME, p=params, T=C_TYPES[kernel.dtype], precision=kernel.dtype)

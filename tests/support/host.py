"""Run a generated library on the host in-process: compiled to a shared object, called through ctypes."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygen.emission import Library, emit_library
from tinygen.graph import Array, Graph
from tinygen.plan_check import verify
from tinygen.planning import plan
from tinygen.program import select

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow")


def library_of(graph: Graph, name: str = "model") -> Library:
    """The graph as a C library: selected, planned, verified, emitted."""
    program = select(graph, None)
    memory = plan(program)
    verify(program, memory)
    return emit_library(program, memory, name)


def write_files(library: Library, folder: Path) -> list[Path]:
    """Write the library below `folder`; returns its C files."""
    for path, text in library.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return [folder / path for path in library.files if path.endswith(".c")]


class HostLibrary:
    """A compiled library; `run` takes (N, *shape) arrays in its precision and returns the outputs, flat per sample."""

    def __init__(self, libraries: Sequence[Library], flags: Sequence[str] = ("-O1",)) -> None:
        with tempfile.TemporaryDirectory(prefix="tinygen-host-") as folder:
            self._so = self._compiled(Path(folder), libraries, flags)  # once loaded, the file may go

    @staticmethod
    def _compiled(root: Path, libraries: Sequence[Library], flags: Sequence[str]) -> ctypes.CDLL:
        sources: list[str] = []
        for library in libraries:
            sources += [str(p) for p in write_files(library, root)]
        target = root / "model.so"
        includes = [f"-I{root}/lib/{library.name}" for library in libraries]
        command = [
            "gcc",
            *WARNINGS,
            *flags,
            "-fPIC",
            "-shared",
            *includes,
            *sources,
            "-o",
            str(target),
            "-lm",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(target))

    def run(
        self, library: Library, inputs: Sequence[Array], dtypes: Sequence[str] | None = None
    ) -> tuple[Array, ...]:
        """Outputs as (N, elements) of these types, by default in the library's precision."""
        name = library.name
        arena = ctypes.create_string_buffer(library.arena_bytes + 64)
        base = ctypes.c_void_p(-(-ctypes.addressof(arena) // 16) * 16)
        get_input, get_output = getattr(self._so, f"{name}_input"), getattr(self._so, f"{name}_output")
        get_input.restype = get_output.restype = ctypes.c_void_p
        invoke = getattr(self._so, f"{name}_invoke")
        count = len(inputs[0])
        types = [np.dtype(d) for d in dtypes or [library.precision] * len(library.output_sizes)]
        sizes = zip(library.output_sizes, types, strict=True)
        outputs = [np.empty((count, size // dtype.itemsize), dtype) for size, dtype in sizes]
        for sample in range(count):
            for i, x in enumerate(inputs):
                data = np.ascontiguousarray(x[sample])
                ctypes.memmove(get_input(base, ctypes.c_size_t(i)), data.ctypes.data, data.nbytes)
            status = invoke(base, ctypes.c_size_t(library.arena_bytes))
            assert status == 0, status
            for i, out in enumerate(outputs):
                raw = ctypes.string_at(get_output(base, ctypes.c_size_t(i)), out[sample].nbytes)
                out[sample] = np.frombuffer(raw, out.dtype)
        return tuple(outputs)


def run_on_host(graph: Graph, inputs: Sequence[Array], flags: Sequence[str] = ("-O1",)) -> tuple[Array, ...]:
    """Outputs (N, *shape) of the graph's C library on the host."""
    library = library_of(graph)
    types = [t.dtype for t in graph.output_tensors]
    outputs = HostLibrary([library], flags).run(library, inputs, types)
    return tuple(o.reshape(len(o), *t.shape) for o, t in zip(outputs, graph.output_tensors, strict=True))

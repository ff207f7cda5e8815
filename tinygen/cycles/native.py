"""The structures of tracer.h and memory.h, and the shared library that they are compiled into."""

from __future__ import annotations

import ctypes as c
from functools import cache
from pathlib import Path

from tinygen.emulators.native_code import shared_library

SOURCE = Path(__file__).with_name("tracer.c")
VIEWS, REGIONS = 2, 16
FETCH, DATA = 0, 1


class Way(c.Structure):
    """tg_way."""

    _fields_ = tuple((name, c.c_uint64) for name in ("line", "used", "valid", "dirty", "first", "from"))


class CacheState(c.Structure):
    """tg_cache."""

    _fields_ = (
        *((name, c.c_uint32) for name in ("line", "ways", "sets", "fill", "write_back")),
        ("content", c.POINTER(Way)),
    )


class Memory(c.Structure):
    """tg_memory."""

    _fields_ = (
        ("start", c.c_uint64),
        ("end", c.c_uint64),
        ("width", c.c_uint32),
        ("wait", c.c_uint32),
        ("wait_next", c.c_uint32),
        ("cache", c.c_int32 * 2),
        ("prefetch", c.c_uint32),
        *((n, c.c_uint64) for n in ("free_at", "next_unit", "ahead", "ahead_at")),
    )


class Bucket(c.Structure):
    """tg_bucket."""

    _fields_ = (
        ("instructions", c.c_uint64),
        ("cycles", c.c_uint64),
        ("stalls", (c.c_uint64 * 2) * VIEWS),
        ("read", c.c_uint64 * REGIONS),
        ("written", c.c_uint64 * REGIONS),
    )


class Object(c.Structure):
    """tg_object."""

    _fields_ = (
        ("start", c.c_uint64),
        ("end", c.c_uint64),
        ("elsewhere", c.c_uint64),
        ("read", c.c_uint64),
        ("stalls", c.c_uint64 * VIEWS),
    )


class View(c.Structure):
    """tg_view."""

    _fields_ = (("memory", Memory * REGIONS), ("caches", c.POINTER(CacheState)), ("stalls", c.c_uint64))


class Block(c.Structure):
    """tg_block."""

    _fields_ = (
        ("address", c.c_uint64),
        *((name, c.c_uint32) for name in ("size", "instructions", "cycles", "accesses", "conditional")),
        ("fetches", c.c_uint32 * VIEWS),
        ("starts", c.POINTER(c.c_uint32)),
        ("fetch", c.POINTER(c.c_uint32) * VIEWS),
        ("region", c.c_int32 * VIEWS),
        ("object", c.c_int32),
        ("moved", c.c_uint64),
    )


class Edge(c.Structure):
    """tg_edge."""

    _fields_ = (("key", c.c_uint64), ("cycles", c.c_uint32))


Find = c.CFUNCTYPE(c.c_uint64, c.c_void_p, c.c_uint64, c.c_uint32, c.POINTER(c.POINTER(Block)))
Weigh = c.CFUNCTYPE(c.c_uint32, c.c_uint64, c.c_uint64)


class Tracer(c.Structure):
    """tg_tracer."""

    _fields_ = (
        ("views", View * VIEWS),
        *((f"{name}_count", c.c_uint32) for name in ("view", "region", "object", "step", "sample")),
        ("objects", c.POINTER(Object)),
        ("buckets", c.POINTER(Bucket)),
        *((name, c.c_uint64) for name in ("mark", "invoke", "invoke_end")),
        ("find", Find),
        ("weigh", Weigh),
        ("read_register", c.c_void_p),
        ("write_register", c.c_void_p),
        ("xpsr", c.c_int),
        ("blocks", c.POINTER(Block)),
        ("by_address", c.POINTER(c.c_uint64)),
        ("edges", c.POINTER(Edge)),
        *((n, c.c_uint64) for n in ("by_address_size", "edges_size", "edge_count", "block_count")),
        *((n, c.c_uint64) for n in ("current", "clock", "begin")),
        *((n, c.c_uint32) for n in ("access", "marks", "step", "inside", "last_object")),
        ("last_region", c.c_uint32 * VIEWS),
        ("overflow", c.c_uint64),
        ("entered", c.c_uint64),
        ("copies", c.c_uint32),
        ("copy_cycles", c.c_uint64),
        ("fetched", c.c_uint32 * VIEWS),
        ("bucket", c.POINTER(Bucket)),
    )


@cache
def library() -> c.CDLL:
    """The compiled tracer, built once per process. Raises ToolError without a C compiler."""
    return shared_library(SOURCE)

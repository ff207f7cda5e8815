"""A program of its own: reads one HDF5 file completely, within limits, and says on stdout what is wrong.

    python h5_probe.py FILE MAX_BYTES

The HDF5 library can allocate gigabytes, loop or crash on a damaged file. It does so in this process, which
the front end starts first and which has little time and memory. It stands alone (no tinygen imports), so that
it starts fast and from anywhere. Exit code 0: the file is harmless; 1: refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

MAX_OBJECTS = 50_000
MAX_MEMORY = 3 << 29
"""Bytes (1.5 GB) of address space."""
MAX_SECONDS = 6


class Refused(Exception):
    """The file is understood, and not wanted."""


def limit_resources() -> None:
    """Little time and memory for whatever the HDF5 library does. (Windows has no such limits.)"""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def check(path: str, max_bytes: int) -> None:
    """Refuse links out of the file, virtual and external data, objects, and more data than allowed."""
    import h5py

    with h5py.File(path, "r") as file:
        total = 0
        for count, (name, item) in enumerate(objects(file)):
            if count > MAX_OBJECTS:
                raise Refused(f"it holds more than {MAX_OBJECTS:,} HDF5 objects")
            for key in item.attrs:
                item.attrs[key]
            if isinstance(item, h5py.Dataset):
                check_dataset(name, item)
                total += int(item.size or 0) * int(item.dtype.itemsize)
                if total > max_bytes:
                    raise Refused(f"it declares {total:,} bytes of weights, allowed are {max_bytes:,}")
                item[()]


def objects(file: Any) -> Iterator[tuple[str, Any]]:
    """Every group and dataset once, the root first, found without following any link but hard ones."""
    import h5py

    yield "/", file
    stack, seen = [("", file)], set()
    while stack:
        prefix, group = stack.pop()
        for key in group:
            name = f"{prefix}/{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise Refused(f"'{name[:60]}' is a link to elsewhere, which is refused")
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:
                seen.add(address)
                yield name, item
                if isinstance(item, h5py.Group):
                    stack.append((name, item))


def check_dataset(name: str, item: Any) -> None:
    """Numbers (or short texts) stored in the file itself."""
    if item.external or item.is_virtual:
        raise Refused(f"'{name[:60]}' points into another file, which is refused")
    if item.dtype.kind not in "fiubSV" or item.dtype.hasobject:
        raise Refused(f"'{name[:60]}' holds {item.dtype} objects, allowed are numbers")


def main() -> int:
    """Check the file named on the command line."""
    limit_resources()
    try:
        check(sys.argv[1], int(sys.argv[2]))
    except Refused as refusal:
        print(refusal)
        return 1
    except MemoryError:
        print("reading the HDF5 file takes too much memory")
        return 1
    except Exception as error:
        print(f"reading the HDF5 file failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

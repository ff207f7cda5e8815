"""tinygen: a compiler from trained Keras models to bit-exact INT8 microcontroller firmware.

    import tinygen
    project = tinygen.compile("model.keras", representative="samples.npz", board="mps2_an386", out="fw")
    result = tinygen.run("fw", inputs="eval.npz", emulator="qemu", count=20)

Nothing here imports TensorFlow until a Keras model is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "TinygenError",
    "__version__",
    "bench",
    "compile",
    "export",
    "load",
    "profile",
    "prune",
    "qat",
    "read_registry",
    "report",
    "run",
    "tune",
]

if TYPE_CHECKING:
    from tinygen.api import bench, compile, export, load, profile, report, run
    from tinygen.errors import TinygenError
    from tinygen.prune_api import prune
    from tinygen.pruning.registry import read as read_registry
    from tinygen.qat_api import qat
    from tinygen.tune_api import tune


def __getattr__(name: str) -> Any:
    """Public names are imported on first use: `import tinygen` itself stays instant."""
    if name == "TinygenError":
        from tinygen.errors import TinygenError

        return TinygenError
    if name == "read_registry":
        from tinygen.pruning.registry import read

        return read
    if name == "prune":
        from tinygen.prune_api import prune

        return prune
    if name == "qat":
        from tinygen.qat_api import qat

        return qat
    if name == "tune":
        from tinygen.tune_api import tune

        return tune
    if name in __all__:
        from tinygen import api

        return getattr(api, name)
    raise AttributeError(f"module 'tinygen' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)

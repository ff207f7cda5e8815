"""The slow, talkative imports, each in one place: TensorFlow and LiteRT print notices on stderr from native code."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """File descriptor 2 goes nowhere meanwhile: for libraries whose native code greets the user."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def import_keras() -> Any:
    """The module keras, on TensorFlow, on the CPU: results must not depend on a graphics card."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "keras" not in sys.modules:
        with native_stderr_silenced(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow

            tensorflow.get_logger().setLevel("ERROR")  # retracing is ours to know of, not the user's
    return sys.modules["keras"]

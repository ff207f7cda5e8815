"""minimum: elementwise minimum of two inputs with broadcasting; all share one QParams. out = min(a, b)."""

from __future__ import annotations

import numpy as np

from tinygen.ops.comparison import comparison

OP = comparison("minimum", np.minimum, keras="Minimum", tflite="MINIMUM")

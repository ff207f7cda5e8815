"""maximum: elementwise maximum of two inputs with broadcasting; all share one QParams. out = max(a, b)."""

from __future__ import annotations

import numpy as np

from tinygen.ops.comparison import comparison

OP = comparison("maximum", np.maximum, keras="Maximum", tflite="MAXIMUM")

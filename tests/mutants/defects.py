"""The planted defects."""

from tests.mutants.runner import Defect

FIXEDPOINT_C = "templates/kernels/tg_fixedpoint.h"

DEFECTS: tuple[Defect, ...] = (
    Defect(
        "C: division by a power of two truncates",
        FIXEDPOINT_C,
        "(x >> exponent) + (remainder > threshold ? 1 : 0)",
        "(x >> exponent)",
        "tests/ops/test_conv2d.py",
    ),
)

"""Planted defects in the kernels for cores without SIMD and for Helium."""

from tests.mutants.runner import Defect

KERNELS = "templates/kernels"
OPS = "tinygen/ops"
PLAIN = "tests/ops/test_plain.py"
COMPILERS = "tests/ops/test_compilers.py"
MVE = "tests/ops/test_mve.py"

PLAIN_AND_HELIUM: tuple[Defect, ...] = (
    Defect(
        "plain cores: the product of halves loses what the low halves carry",
        f"{KERNELS}/tg_plain.h",
        "ah * bl + al * bh + ((al * bl) >> 16)",
        "ah * bl + al * bh",
        f"{PLAIN}::test_halves",
    ),
    Defect(
        "plain cores: halves of negative numbers go towards zero",
        f"{KERNELS}/tg_plain.h",
        "(product - (product < 0 ? 1 : 0) + half)",
        "(product + half)",
        f"{PLAIN}::test_halves",
    ),
    Defect(
        "plain cores: the assembler's third weight is shifted by 17 bits",
        f"{KERNELS}/plain_product.j2",
        '"lsrs r6, {{ word }}, #16\\n"',
        '"lsrs r6, {{ word }}, #17\\n"',
        f"{PLAIN}::test_random_nodes[dense]",
    ),
    Defect(
        "plain cores: a high register of the caller is not restored",
        f"{KERNELS}/plain_product.j2",
        '"mov r8, r4\\n"\n        "mov r9, r5\\n"',
        '"mov r9, r5\\n"',
        f"{COMPILERS}::test_every_optimization_gives_the_same[-O3-m0]",
    ),
    Defect(
        "plain cores: the sum of a column is not taken off",
        f"{KERNELS}/plain_product.j2",
        " - (sum << 7)",
        " - (sum << 6)",
        f"{PLAIN}::test_random_nodes[conv2d]",
    ),
    Defect(
        "plain cores: the short requantization without its bound",
        f"{OPS}/plain_product.py",
        "return right and bool(np.all(accumulator_bound(weights, bias, axis) < QUICK_BOUND))",
        "return right",
        f"{PLAIN}::test_accumulators_too_large_for_halves",
    ),
    Defect(
        "plain cores: a depthwise row below the image keeps what it held",
        f"{KERNELS}/tg_depthwise_conv2d_s8_rows.c.j2",
        "memset(row + {{ p.c.pad_left }}, FILL, COLUMNS);",
        "",
        f"{PLAIN}::test_random_nodes[depthwise_conv2d]",
    ),
    Defect(
        "Helium: VRSHL without the step that sends negative halves away from zero",
        f"{KERNELS}/tg_mve.h",
        "vaddq_s32(high, vshrq_n_s32(vandq_s32(high, right), 31))",
        "high",
        f"{MVE}::test_halves",
    ),
    Defect(
        "Helium: odd and even channels of a depthwise layer change places",
        f"{OPS}/depthwise_mve.py",
        "ORDER = (0, 2, 4, 6, 1, 3, 5, 7)",
        "ORDER = (0, 1, 2, 3, 4, 5, 6, 7)",
        f"{MVE}::test_random_nodes[depthwise_conv2d]",
    ),
    Defect(
        "Helium: the input's zero_point is not folded into the bias",
        f"{OPS}/mve.py",
        "folded_bias(b, 0)",
        "folded_bias(b, 0, -b.inputs[0].zero_point)",
        f"{MVE}::test_random_nodes[conv2d]",
    ),
    Defect(
        "Helium: shifts to the left are forgotten",
        f"{OPS}/mve.py",
        "return int(max(requant.shift) > 0)",
        "return 0",
        f"{MVE}::test_extreme_accumulators[conv2d]",
    ),
)

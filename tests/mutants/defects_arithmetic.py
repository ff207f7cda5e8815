"""Planted defects in fixed point and in the operators that multiply by weights: C, references, scales."""

from tests.mutants.runner import Defect

KERNELS = "templates/kernels"
OPS = "tinygen/ops"
TESTS = "tests/ops"

ARITHMETIC: tuple[Defect, ...] = (
    # ---- fixed point
    Defect(
        "C: division by a power of two truncates",
        f"{KERNELS}/tg_fixedpoint.h",
        "(x >> exponent) + (remainder > threshold ? 1 : 0)",
        "(x >> exponent)",
        f"{TESTS}/test_requantize.py::test_c_equals_reference",
    ),
    Defect(
        "C: negative halves of a product are nudged the other way",
        f"{KERNELS}/tg_fixedpoint.h",
        "(int64_t)1 << 30 : 1 - ((int64_t)1 << 30)",
        "(int64_t)1 << 30 : -((int64_t)1 << 30)",
        "tests/test_fixedpoint.py::test_c_computes_the_same",
    ),
    Defect(
        "C: results above the greatest are not clamped",
        f"{KERNELS}/tg_fixedpoint.h",
        "return x < low ? low : (x > high ? high : x);",
        "return x < low ? low : x;",
        f"{TESTS}/test_requantize.py::test_c_equals_reference",
    ),
    Defect(
        "reference: halves of negative numbers are rounded up twice",
        "tinygen/fixedpoint.py",
        "-(half > 0).astype(np.int64)",
        "0",
        "tests/test_fixedpoint.py::test_division_rounds_halves_away_from_zero",
    ),
    Defect(
        "reference: blocks of numbers overlap",
        "tinygen/fixedpoint.py",
        "_multiplied(rows[i : i + step], multiplier, shift)",
        "_multiplied(rows[max(0, i - 1) :][:step], multiplier, shift)[: len(rows) - i]",
        "tests/test_fixedpoint.py::test_blocks_round_as_single_numbers_do",
    ),
    Defect(
        "quantize_multiplier: rounded down",
        "tinygen/fixedpoint.py",
        "math.floor(significand * 2**31 + 0.5)",
        "math.floor(significand * 2**31)",
        "tests/test_fixedpoint.py::test_multiplier_is_the_nearest",
    ),
    Defect(
        "quantize_multiplier: no carry when rounding reaches 2**31",
        "tinygen/fixedpoint.py",
        "multiplier, shift = 2**30, shift + 1",
        "multiplier, shift = 2**30, shift",
        "tests/test_fixedpoint.py::test_multiplier_is_the_nearest",
    ),
    # ---- convolutions and dense
    Defect(
        "conv2d C: zero_point of the input not subtracted",
        f"{KERNELS}/tg_conv2d.c.j2",
        "((int32_t)pixel[i] - ({{ p.input_zero_point }})) * (int32_t)filter[i]",
        "(int32_t)pixel[i] * (int32_t)filter[i]",
        f"{TESTS}/test_conv2d.py::test_reference_litert_c_and_real_agree",
    ),
    Defect(
        "conv2d C: stride of the height along the width",
        f"{KERNELS}/tg_conv2d.c.j2",
        "out_x * {{ p.stride_w }}",
        "out_x * {{ p.stride_h }}",
        f"{TESTS}/test_conv2d.py::test_reference_litert_c_and_real_agree",
    ),
    Defect(
        "conv2d C: dilation of the height along the width",
        f"{KERNELS}/tg_conv2d.c.j2",
        "x + kx * DX) * IN_C",
        "x + kx * DY) * IN_C",
        f"{TESTS}/test_conv2d.py::test_reference_litert_c_and_real_agree",
    ),
    Defect(
        "conv2d C: all groups read the first one's channels",
        f"{KERNELS}/tg_conv2d.c.j2",
        "input + o / GROUP_O * GROUP_C",
        "input",
        f"{TESTS}/test_conv2d.py::test_reference_litert_c_and_real_agree",
    ),
    Defect(
        "C: first tap behind the padding rounded down under dilation",
        f"{KERNELS}/taps.j2",
        "(-{{ from }} + {{ dilation }} - 1) / {{ dilation }} : 0",
        "-{{ from }} / {{ dilation }} : 0",
        f"{TESTS}/test_conv2d.py::test_reference_litert_c_and_real_agree",
    ),
    Defect(
        "SAME padding: the odd element goes in front",
        f"{OPS}/windows.py",
        "return total // 2, total - total // 2",
        "return total - total // 2, total // 2",
        f"{TESTS}/test_pooling.py::test_average_counts_only_the_input",
    ),
    Defect(
        "depthwise C: channels of a depth multiplier interleaved the other way",
        f"{KERNELS}/tg_depthwise_conv2d.c.j2",
        "input + o / {{ p.depth_multiplier }}",
        "input + o % IN_C",
        f"{TESTS}/test_depthwise_conv2d.py::test_reference_litert_c_and_real_agree",
    ),
    Defect(
        "conv2d_transpose C: one input row too few",
        f"{KERNELS}/tg_conv2d_transpose_s8.c.j2",
        "y < KH ? 0 : (y - KH) / SY + 1",
        "y < KH ? 0 : (y - KH) / SY + 2",
        f"{TESTS}/test_conv2d_transpose.py::test_reference_litert_c_and_real_agree",
    ),
    Defect(
        "dense: LiteRT's single rounding rounds as the C does",
        f"{OPS}/dense.py",
        "p.requant.apply(sums.astype(np.int64), rounding)",
        "p.requant.apply(sums.astype(np.int64))",
        f"{TESTS}/test_dense.py::test_roundings_differ_only_next_to_halves",
    ),
    Defect(
        "weights: one scale for all output channels",
        f"{OPS}/requant.py",
        "largest, total = size.max(axis=along), size.sum(axis=along)",
        "largest, total = np.full(size.shape[axis], size.max()), size.sum(axis=along)",
        f"{TESTS}/test_requant.py::test_every_output_channel_has_its_own_scale",
    ),
    Defect(
        "bias: quantized at the weights' scale alone",
        f"{OPS}/requant.py",
        "bias.data / (input.scale[0] * scale)",
        "bias.data / scale",
        f"{TESTS}/test_conv2d.py::test_a_known_result",
    ),
    Defect(
        "bias: its scale lacks the input's",
        f"{OPS}/requant.py",
        "QParams(tuple((input.scale[0] * scale).tolist()), (0,) * count, 0)",
        "QParams(tuple(scale.tolist()), (0,) * count, 0)",
        f"{TESTS}/test_conv2d.py::test_reference_litert_c_and_real_agree",
    ),
    Defect(
        "accumulator: the check leaves out the bias",
        f"{OPS}/requant.py",
        "reach * size + np.abs(bias.astype(np.int64))",
        "reach * size",
        f"{TESTS}/test_requant.py::test_imported_accumulators_that_overflow_are_refused",
    ),
    Defect(
        "accumulator: the check leaves out the shift to the left",
        f"{OPS}/requant.py",
        "all(int(most) << max(shift, 0) <= LARGEST for",
        "all(int(most) <= LARGEST for",
        f"{TESTS}/test_requant.py::test_imported_accumulators_that_overflow_are_refused",
    ),
    Defect(
        "weights: scales are not lowered where the shifted accumulator would overflow",
        f"{OPS}/requant.py",
        "[s * 2.0 ** -_halvings(s * ratio, int(most)) for s, most",
        "[s + 0.0 * most for s, most",
        f"{TESTS}/test_requant.py::test_an_output_scale_of_next_to_nothing_saturates",
    ),
)

"""Planted defects in the operators that multiply no weights: kernels in C and their references."""

from tests.mutants.runner import Defect

KERNELS = "templates/kernels"
OPS = "tinygen/ops"
TESTS = "tests/ops"

OPERATORS: tuple[Defect, ...] = (
    # ---- elementwise
    Defect(
        "add: inputs gain 10 fraction bits instead of 20",
        f"{OPS}/add.py",
        "LEFT_SHIFT = {8: 20,",
        "LEFT_SHIFT = {8: 10,",
        f"{TESTS}/test_binary.py::test_every_pair_of_inputs[add]",
    ),
    Defect(
        "mul C: zero_point of the second input taken from the first",
        f"{KERNELS}/tg_mul_s8.c.j2",
        "{{ p.loops.index2 }}] - ({{ p.zero_point2 }})",
        "{{ p.loops.index2 }}] - ({{ p.zero_point1 }})",
        f"{TESTS}/test_binary.py::test_constant_on_either_side[False-mul]",
    ),
    Defect(
        "binary operators: an operand that repeats may be overwritten",
        f"{OPS}/binary.py",
        "enumerate(b.activations) if t.elements == b.output.elements)",
        "enumerate(b.activations))",
        f"{TESTS}/test_binary.py::test_in_place",
    ),
    Defect(
        "softmax C: two Newton steps for the reciprocal instead of three",
        f"{KERNELS}/tg_fixedpoint.h",
        "for (int32_t step = 0; step < 3; ++step) {",
        "for (int32_t step = 0; step < 2; ++step) {",
        "tests/test_fixedpoint.py::test_c_of_exponential_and_reciprocal",
    ),
    Defect(
        "softmax: the exponential's series ends at degree 3",
        f"{OPS}/q31.py",
        "x4_over_4 = rounding_divide_by_pot(_high_mul(x2, x2), 2)",
        "x4_over_4 = 0 * x2",
        f"{TESTS}/test_softmax.py::test_exponential_in_fixed_point",
    ),
    Defect(
        "softmax C: the maximum ignores the row's last element",
        f"{KERNELS}/tg_softmax_s8.c.j2",
        "for (int32_t i = 1; i < {{ p.depth }}; ++i) {",
        "for (int32_t i = 1; i + 1 < {{ p.depth }}; ++i) {",
        f"{TESTS}/test_softmax.py::test_c_equals_reference",
    ),
    Defect(
        "activation C: the table is read one entry too low",
        f"{KERNELS}/tg_activation_s8.c.j2",
        "table[(int32_t)input[i] + 128]",
        "table[((int32_t)input[i] + 127) & 255]",
        f"{TESTS}/test_activation.py::test_c_equals_reference[sigmoid]",
    ),
    Defect(
        "activation: the table starts at input -127",
        f"{OPS}/table.py",
        "for q in range(-128, 128)]",
        "for q in range(-127, 129)]",
        f"{TESTS}/test_activation.py::test_ties_round_away_from_zero",
    ),
    Defect(
        "prelu C: alpha also applies above 0",
        f"{KERNELS}/tg_prelu_s8.c.j2",
        "*output++ = centred >= 0",
        "*output++ = centred > 1",
        f"{TESTS}/test_prelu.py::test_every_input_and_alpha",
    ),
    # ---- pooling, mean, resize
    Defect(
        "average_pool2d C: padding counts as elements",
        f"{KERNELS}/tg_average_pool2d.c.j2",
        "(y_end - y_begin) * (x_end - x_begin)",
        "{{ p.window_h }} * {{ p.window_w }}",
        f"{TESTS}/test_pooling.py::test_pool_equals_plain_loops[average_pool2d]",
    ),
    Defect(
        "average_pool2d C: negative sums are rounded towards zero",
        f"{KERNELS}/tg_average_pool2d.c.j2",
        "sum < 0 ? -(count / 2) : count / 2",
        "sum < 0 ? 0 : count / 2",
        f"{TESTS}/test_pooling.py::test_pool_equals_plain_loops[average_pool2d]",
    ),
    Defect(
        "max_pool2d C: starts from 0 instead of -128",
        f"{OPS}/pooling.py",
        "lowest=str(b.output.q.low)",
        'lowest="0"',
        f"{TESTS}/test_pooling.py::test_pool_equals_plain_loops[max_pool2d]",
    ),
    Defect(
        "mean: zero_point of the input added instead of subtracted",
        f"{OPS}/mean.py",
        "x.shape[2], -count * x.zero_point,",
        "x.shape[2], count * x.zero_point,",
        f"{TESTS}/test_mean.py::test_a_constant_image_keeps_its_value",
    ),
    Defect(
        "mean: the multiplier loses bits when it is divided by the count",
        f"{OPS}/mean.py",
        "gain = min(count.bit_length() - 1, 32, 31 + shift)",
        "gain = min(0, 32, 31 + shift)",
        f"{TESTS}/test_mean.py::test_folded_multiplier_is_the_quotient",
    ),
    Defect(
        "resize_bilinear: pixels lie at their corners",
        f"{OPS}/resize_bilinear.py",
        "2 * np.arange(size * factor) + 1 - factor",
        "2 * np.arange(size * factor)",
        f"{TESTS}/test_resize.py::test_bilinear_is_the_rounded_rational[3]",
    ),
    Defect(
        "resize_bilinear C: the upper neighbour of the last column is not clamped",
        f"{KERNELS}/tg_resize_bilinear_s8.c.j2",
        "tg_clamp(at_x / SPAN_W, 0, LAST_X)",
        "tg_clamp(at_x / SPAN_W, 0, LAST_X + 1)",
        f"{TESTS}/test_resize.py::test_bilinear_equals_litert_and_c",
    ),
    # ---- data movement
    Defect(
        "concat C: inputs in the opposite order",
        f"{KERNELS}/tg_concat.c.j2",
        "{% for run in p.runs %}\n        memcpy(output, input{{ loop.index0 }}",
        "{% for run in p.runs %}\n        memcpy(output, input{{ loop.revindex0 }}",
        f"{TESTS}/test_concat.py::test_concat_equals_litert_and_c",
    ),
    Defect(
        "join C: a part that is not there yet is not copied",
        f"{KERNELS}/tg_join.c.j2",
        "if (input{{ loop.index0 }} != output)",
        "if (input{{ loop.index0 }} < output)",
        f"{TESTS}/test_concat.py::test_concat_equals_litert_and_c",
    ),
    Defect(
        "join: a part stands where the one behind it does",
        f"{OPS}/concat.py",
        "    starts = [0, *ends[:-1]]",
        "    starts = ends",
        f"{TESTS}/test_concat.py::test_parts_stand_at_whole_words",
    ),
    Defect(
        "rows C: bytes that overlap are copied as if they did not",
        f"{KERNELS}/tg_rows.c.j2",
        "    if (output != input + {{ p.copy.source }})",
        "    if (output > input + {{ p.copy.source }})",
        f"{TESTS}/test_pad_crop.py::test_equals_litert_and_c",
    ),
    Defect(
        "concat: joined along the axis behind",
        f"{OPS}/concat.py",
        "np.prod(b.output.shape[: b.attrs.axis], dtype=np.int64)",
        "np.prod(b.output.shape[: b.attrs.axis + 1], dtype=np.int64)",
        f"{TESTS}/test_concat.py::test_concat_equals_litert_and_c",
    ),
    Defect(
        "transpose: the inverse permutation",
        f"{OPS}/transpose.py",
        "[source[axis] for axis in b.attrs.perm]",
        "[source[b.attrs.perm.index(axis)] for axis in range(len(b.attrs.perm))]",
        f"{TESTS}/test_transpose_reshape.py::test_copy_visits_every_element_once",
    ),
    Defect(
        "pad C: filled with 0 instead of the zero_point",
        f"{KERNELS}/tg_pad.c.j2",
        "memset(output, {{ p.fill }},",
        "memset(output, 0,",
        f"{TESTS}/test_pad_crop.py::test_equals_litert_and_c",
    ),
)

"""Planted defects in the kernels for DSP cores."""

from tests.mutants.runner import Defect

KERNELS = "templates/kernels"
OPS = "tinygen/ops"
DEPTHWISE = "tests/ops/test_depthwise_dsp.py"
BINARY = "tests/ops/test_binary_dsp.py"
POOLING = "tests/ops/test_pooling_dsp.py"
PRODUCTS = "tests/ops/test_products_dsp.py"
WINOGRAD = "tests/ops/test_winograd.py"

DSP: tuple[Defect, ...] = (
    Defect(
        "products: the upper lane's sum is taken as if it were not above the lower one's",
        f"{KERNELS}/dsp_tile.j2",
        '"asr lr, {{ s1 }}, #7\\n"',
        '"asr lr, {{ s1 }}, #8\\n"',
        f"{PRODUCTS}::test_random_convolutions",
    ),
    Defect(
        "products: the lower lane's sign is not added before the rounding shift",
        f"{KERNELS}/dsp_tile.j2",
        '"add {{ s2 }}, r12, {{ s2 }}, asr #31\\n"',
        '"add {{ s2 }}, r12, #0\\n"',
        f"{PRODUCTS}::test_extreme_accumulators",
    ),
    Defect(
        "products: the second pixel is read where the first one is",
        f"{KERNELS}/dsp_tile.j2",
        "{{ t.pixel_bytes + 4 * i }}",
        "{{ 4 * i }}",
        f"{PRODUCTS}::test_random_convolutions",
    ),
    Defect(
        "products: an upper lane's accumulator may have 24 bits",
        f"{OPS}/dsp_product.py",
        "LANE_BOUND = 2**23",
        "LANE_BOUND = 2**24",
        f"{PRODUCTS}::test_what_cannot_be_proved_is_not_taken",
    ),
    Defect(
        "products: a ring of rows works in place whatever its lead",
        f"{OPS}/conv2d_dsp.py",
        "return (0,) if behind else ()",
        "return (0,)",
        f"{PRODUCTS}::test_random_convolutions",
    ),
    Defect(
        "products: the ring's padding is 0 and not the zero_point",
        f"{KERNELS}/tg_conv2d_s8_dsp_rows.c.j2",
        "tg_fill(ring, {{ p.c.input_zero_point }}, KH * PITCH)",
        "tg_fill(ring, 0, KH * PITCH)",
        f"{PRODUCTS}::test_random_convolutions",
    ),
    Defect(
        "products: windows wholly in the padding copy a negative count",
        f"{KERNELS}/tg_conv2d_s8_dsp_columns.c.j2",
        "tg_clamp(x + {{ p.c.kernel_w }} - IN_W, 0, {{ p.c.kernel_w }})",
        "tg_clamp(x + {{ p.c.kernel_w }} - IN_W, 0, 255)",
        f"{PRODUCTS}::test_random_convolutions",
    ),
    Defect(
        "Winograd: the upper of two transformed inputs keeps what the lower one's sign borrowed",
        f"{KERNELS}/tg_dsp.h",
        "and %0, %1, #0x8000",
        "and %0, %1, #0x4000",
        f"{WINOGRAD}::test_turns_of_the_inner_loop",
    ),
    Defect(
        "Winograd: rows below the input are 0 and not the zero_point",
        f"{KERNELS}/tg_conv2d_s8_dsp_winograd.c.j2",
        "tg_fill_words(ring + i * PITCH, {{ p.padding }}U",
        "tg_fill_words(ring + i * PITCH, 0U",
        f"{WINOGRAD}::test_random_nodes",
    ),
    Defect(
        "Winograd: a zero_point that is added behind the shift is in the rounding, too",
        f"{OPS}/winograd.py",
        "apart if o.apart else o.rounding",
        "o.rounding",
        f"{WINOGRAD}::test_extreme_products",
    ),
    Defect(
        "Winograd: works in place whatever the ring's lead",
        f"{OPS}/winograd.py",
        "return (0,) if behind else ()",
        "return (0,)",
        f"{WINOGRAD}::test_in_place",
    ),
    Defect(
        "depthwise 3x3: the second output of a pair takes its first tap from the word's lower half",
        f"{KERNELS}/tg_depthwise_conv2d_s8_dsp_3x3.c.j2",
        '"smlatb r11, r3, {{ w01 }}, r11\\n"',
        '"smlabb r11, r3, {{ w01 }}, r11\\n"',
        f"{DEPTHWISE}::test_windows_of_up_to_three",
    ),
    Defect(
        "depthwise 3x3: the sign is not added before the rounding shift",
        f"{KERNELS}/tg_depthwise_conv2d_s8_dsp_3x3.c.j2",
        '"add r3, r3, r11, asr #31\\n"',
        '"add r3, r3, #0\\n"',
        f"{DEPTHWISE}::test_extreme_accumulators",
    ),
    Defect(
        "depthwise 3x3: a register of the caller is not restored",
        f"{KERNELS}/tg_depthwise_conv2d_s8_dsp_3x3.c.j2",
        '"add sp, sp, #28\\n"\n        "pop {r4-r11, pc}\\n"',
        '"add sp, sp, #28\\n"\n        "mov r12, r5\\n pop {r4-r11, lr}\\n mov r5, r12\\n bx lr\\n"',
        f"{DEPTHWISE}::test_every_optimization_gives_the_same",
    ),
    Defect(
        "depthwise, two rows: the lower row starts from the upper one's sum",
        f"{KERNELS}/tg_depthwise_conv2d_s8_dsp_3x3_quad.c.j2",
        '"lr" if row == 1 else lower[column]',
        "upper[column] if row == 1 else lower[column]",
        f"{DEPTHWISE}::test_two_rows_at_a_time",
    ),
    Defect(
        "depthwise, two rows: behind an odd last row the output's pointer is not set back",
        f"{KERNELS}/tg_depthwise_conv2d_s8_dsp_3x3_quad.c.j2",
        '"sub r1, r1, #{{ p.out_row }}\\n"',
        '"sub r1, r1, #0\\n"',
        f"{DEPTHWISE}::test_two_rows_at_a_time",
    ),
    Defect(
        "requantize on DSP cores: a shift to the left is forgotten",
        f"{OPS}/unary_dsp.py",
        "2 << max(p.shift, 0)",
        "2",
        "tests/ops/test_unary_dsp.py::test_requantize",
    ),
    Defect(
        "activation on DSP cores: the table is read as if inputs had no sign",
        f"{KERNELS}/tg_activation_s8_dsp.c.j2",
        "tg_load_word(input) ^ 0x80808080U",
        "tg_load_word(input)",
        "tests/ops/test_unary_dsp.py::test_activation[256]",
    ),
    Defect(
        "depthwise: rows behind the input keep what the block before left there",
        f"{KERNELS}/dsp_planes.j2",
        "tg_fill_words(to + i * PLANE, ZERO, PITCH / 2);",
        "tg_fill_words(to + i * PLANE, ZERO, 0);",
        f"{DEPTHWISE}::test_in_place",
    ),
    Defect(
        "depthwise: the rows that the next block sees are moved from one row too early",
        f"{OPS}/dsp_planes.py",
        "return (self.rows - self.kept) * self.pitch",
        "return (self.rows - self.kept - 1) * self.pitch",
        f"{DEPTHWISE}::test_in_place",
    ),
    Defect(
        "depthwise: in place whatever the rows' order",
        f"{OPS}/dsp_planes.py",
        "    return all(out * c.out_w <= max(s, 0) * c.in_w or s >= c.in_h",
        "    return True or all(out * c.out_w <= max(s, 0) * c.in_w or s >= c.in_h",
        f"{DEPTHWISE}::test_an_output_that_would_overtake_its_rows_needs_its_own_buffer",
    ),
    Defect(
        "depthwise: doubled accumulators up to 2**31 are taken for proved",
        f"{OPS}/dsp_planes.py",
        "DOUBLED_BOUND = 2**30",
        "DOUBLED_BOUND = 2**31",
        f"{DEPTHWISE}::test_what_cannot_be_proved_is_not_taken",
    ),
    Defect(
        "depthwise: channels with long shifts are never looked at",
        f"{OPS}/dsp_planes.py",
        "((right <= MOST_RIGHT) | vanishes(requant, bound))",
        "(right <= 31)",
        f"{DEPTHWISE}::test_what_cannot_be_proved_is_not_taken",
    ),
    Defect(
        "depthwise, any window: outputs at odd elements read the filter of even ones",
        f"{OPS}/depthwise_dsp.py",
        "return tuple(j * self.advance % 2 for j in range(4))",
        "return tuple(0 for j in range(4))",
        f"{DEPTHWISE}::test_any_window",
    ),
    Defect(
        "depthwise: the first pixel of a run with dilation is one too late",
        f"{OPS}/dsp_planes.py",
        "first = max(-(start // c.dilation_w), 0)",
        "first = max(-(start // c.dilation_w), 0) + (c.dilation_w > 1)",
        f"{DEPTHWISE}::test_any_window",
    ),
    Defect(
        "widening: the pixel in front of an odd first one is not the zero point",
        f"{KERNELS}/tg_dsp.h",
        "tg_store_pixels(to - 1, plane, zero, zero, tg_sxtb16(word), tg_sxtb16_ror8(word));",
        "tg_store_pixels(to - 1, plane, 0U, 0U, tg_sxtb16(word), tg_sxtb16_ror8(word));",
        f"{DEPTHWISE}::test_windows_of_up_to_three",
    ),
    Defect(
        "add on DSP cores: the input that is not only shifted is rounded without its sign",
        f"{KERNELS}/tg_add_s8_dsp.c.j2",
        "{{ t.rounding }} + ({{ name }}_wide >> 31))",
        "{{ t.rounding }})",
        f"{BINARY}::test_every_pair_of_inputs[add-tg_add_s8_dsp]",
    ),
    Defect(
        "elementwise on DSP cores: elements behind the last word are left out",
        f"{KERNELS}/dsp_elementwise.j2",
        "{% for k in range(p.rest) %}",
        "{% for k in range(0) %}",
        f"{BINARY}::test_shapes_clamps_and_constants",
    ),
    Defect(
        "average on DSP cores: lanes are asked to hold 512 pixels",
        f"{KERNELS}/dsp_sums.j2",
        "{% if p.whole and p.count > 256 %}",
        "{% if p.whole and p.count > 512 %}",
        f"{POOLING}::test_average",
    ),
    Defect(
        "max pooling on DSP cores: bytes are compared without sign",
        f"{KERNELS}/tg_dsp.h",
        '__asm__("ssub8 %0, %1, %2\\n\\tsel %0, %1, %2"',
        '__asm__("usub8 %0, %1, %2\\n\\tsel %0, %1, %2"',
        f"{POOLING}::test_max",
    ),
)

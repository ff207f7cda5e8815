"""Planted defects in the removal of channels that no output can see, and in bands of rows."""

from tests.mutants.runner import Defect

TESTS = "tests/test_constant_channels.py"
BANDS = "tests/test_bands.py"

CHANNELS: tuple[Defect, ...] = (
    Defect(
        "channels: a constant other than the zero_point goes although windows reach over the border",
        "tinygen/ops/conv2d.py",
        "everywhere=not params(b).overhang.any)",
        "everywhere=True)",
        f"{TESTS}::test_planted_channels_of_a_convolution_go",
    ),
    Defect(
        "channels: what goes is taken from the bias",
        "tinygen/ops/intervals.py",
        "sums * (values * known)[source]",
        "-sums * (values * known)[source]",
        f"{TESTS}::test_planted_channels_of_a_convolution_go",
    ),
    Defect(
        "channels: negative weights exchange the ends of an interval",
        "tinygen/ops/intervals.py",
        "return np.minimum(first, second), np.maximum(first, second)",
        "return first, second",
        f"{TESTS}::test_bounds_are_what_trying_everything_gives[1-conv2d]",
    ),
    Defect(
        "channels: padding is taken for input",
        "tinygen/ops/conv2d.py",
        "    inside = np.ones((1, *x.shape[:2], b.attrs.groups))\n    low, high = (accumulate(inside,",
        "    inside = np.ones((1, *x.shape[:2], b.attrs.groups))\n    inside = np.full(inside.shape, 2.0)\n"
        "    low, high = (accumulate(inside,",
        f"{TESTS}::test_bounds_are_what_trying_everything_gives[0-conv2d padded]",
    ),
    Defect(
        "channels: of a table only the ends are looked up",
        "tinygen/ops/intervals.py",
        "parts = [table[low + 128 : high + 129] for",
        "parts = [table[[low + 128, high + 128]] for",
        f"{TESTS}::test_a_table_may_turn_between_the_ends",
    ),
    Defect(
        "channels: prelu is taken for rising everywhere",
        "tinygen/ops/prelu.py",
        "for values in (own.low, *inner, own.high)]",
        "for values in (own.low, own.high)]",
        f"{TESTS}::test_a_negative_slope_turns_at_the_zero_point",
    ),
    Defect(
        "channels: one reader that does not see a channel is enough",
        "tinygen/constant_channels.py",
        "and all(self._knows(reader.name",
        "and any(self._knows(reader.name",
        f"{TESTS}::test_the_reader_decides_not_the_producer_alone",
    ),
    Defect(
        "channels: nothing may be left of a tensor",
        "tinygen/constant_channels.py",
        "if all(len(indices) < graph",
        "if all(len(indices) <= graph",
        f"{TESTS}::test_a_tensor_of_constants_keeps_one_channel_and_outputs_all",
    ),
    Defect(
        "channels: those of a second round are counted from the first round's",
        "tinygen/constant_channels.py",
        "left = np.delete(np.arange(tensor.shape[axis] + len(earlier)), earlier)",
        "left = np.arange(tensor.shape[axis] + len(earlier))",
        f"{TESTS}::test_a_second_round_counts_from_the_first_channels",
    ),
    Defect(
        "channels: int16 layers lose channels, too",
        "tinygen/constant_channels.py",
        'self.graph.tensors[part.tensor].dtype == "int8"',
        "bool(self.graph.tensors)",
        f"{TESTS}::test_int16_layers_are_left_alone",
    ),
    Defect(
        "channels: scales per channel stay",
        "tinygen/slicing.py",
        "    if q is None or q.axis is None or q.axis % rank not in axes:",
        "    if q is None or q.axis is None or q.axis % rank in axes:",
        f"{TESTS}::test_planted_channels_of_a_convolution_go",
    ),
    Defect(
        "channels: floats are compared with other channels",
        "tinygen/quantization_error.py",
        "real = np.delete(real, quantized.removed[name], axis=-1)",
        "real = np.delete(real, [c - 1 for c in quantized.removed[name]], axis=-1)",
        f"{TESTS}::test_the_float_graph_is_compared_channel_by_channel_with_what_is_left",
    ),
    Defect(
        "bands: every band has the whole padding below",
        "tinygen/ops/windows.py",
        "top=inside[0] - low, bottom=high - inside[1])",
        "top=inside[0] - low)",
        f"{BANDS}::test_any_chain_in_any_bands_is_exact",
    ),
    Defect(
        "bands: windows in the padding alone are cut, too",
        "tinygen/ops/windows.py",
        "if max(padding.top, padding.bottom) >= reach:",
        "if max(padding.top, padding.bottom) > reach:",
        f"{BANDS}::test_a_window_in_the_padding_alone_has_no_rows",
    ),
    Defect(
        "bands: arrangements with the most nodes come first",
        "tinygen/bands.py",
        "sorted(tried, key=lambda t: t[:2])",
        "sorted(tried, key=lambda t: (-t[0], t[1]))",
        f"{BANDS}::test_arrangements_need_less_for_more_and_the_first_that_fits_is_taken",
    ),
    Defect(
        "bands: the smallest is taken where less would do",
        "tinygen/bands.py",
        "return next((made for one in tried[:-1] if (made := attempt(one)) is not None), least)",
        "return least",
        f"{BANDS}::test_arrangements_need_less_for_more_and_the_first_that_fits_is_taken",
    ),
    Defect(
        "bands: a chain goes on where others read its inside",
        "tinygen/bands.py",
        "return not {*inside} & {*graph.outputs} and all(found and found <= names for found in readers)",
        "return all(found and found <= names for found in readers)",
        f"{BANDS}::test_an_outside_reader_ends_a_chain",
    ),
    Defect(
        "bands: a shortcut gets the rows of its layer's widest reader",
        "tinygen/banding.py",
        "    if source.rows == needed:",
        "    if source.rows.end == needed.end:",
        f"{BANDS}::test_any_part_with_branches_in_any_bands_is_exact",
    ),
    Defect(
        "bands: rows of the band before are computed again",
        "tinygen/banding.py",
        "done = held[b.output.name].rows.end if b.output.name in held else 0",
        "done = held[b.output.name].rows.end if b is chain[-1] and b.output.name in held else 0",
        f"{BANDS}::test_arrangements_need_less_for_more_and_the_first_that_fits_is_taken",
    ),
    Defect(
        "bands: new rows stand in front of the kept ones",
        "tinygen/banding.py",
        "names = tuple(t.name for t in parts)",
        "names = tuple(t.name for t in reversed(parts))",
        f"{BANDS}::test_any_chain_in_any_bands_is_exact",
    ),
    Defect(
        "bands: one row too few is kept",
        "tinygen/banding.py",
        "return Rows(self.first, max(self.first, min(end, self.end)))",
        "return Rows(self.first, max(self.first, min(end - 1, self.end)))",
        f"{BANDS}::test_any_chain_in_any_bands_is_exact",
    ),
    Defect(
        "bands: whoever wants speed gets them",
        "tinygen/pipeline.py",
        "result = None if small else attempt(graph)",
        'result = None if options.optimize != "portable" else attempt(graph)',
        f"{BANDS}::test_bands_where_size_is_asked_and_where_the_model_does_not_fit_otherwise",
    ),
)

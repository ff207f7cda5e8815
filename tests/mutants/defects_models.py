"""Planted defects on the way in: model files, samples, calibration, metrics."""

from tests.mutants.runner import Defect

MODELS: tuple[Defect, ...] = (
    # ---- reading models
    Defect(
        "Keras: BatchNormalization adds the mean",
        "tinygen/ops/affine.py",
        "scale, beta - mean * scale, builder)",
        "scale, beta + mean * scale, builder)",
        "tests/ops/test_affine.py::test_keras_batch_normalization[True-True-shape0]",
    ),
    Defect(
        "hostile models: a Lambda layer is let through",
        "tinygen/frontend/safety.py",
        "if kind not in self.supported:",
        'if kind not in self.supported and kind != "Lambda":',
        "tests/test_hostile_models.py::test_lambda_is_refused_wherever_it_stands",
    ),
    Defect(
        "tflite reader: SAME is read as VALID",
        "tinygen/tflite/reader.py",
        'enum.SAME: "same"',
        'enum.SAME: "valid"',
        "tests/test_tflite_reader.py::test_a_file_of_our_own_comes_back_as_it_was",
    ),
    Defect(
        "tflite reader: weights with scales along any axis are taken",
        "tinygen/tflite/reader.py",
        "if q.axis not in (None, axis):",
        "if q.axis not in (None, 0, 1, 2, 3):",
        "tests/test_hostile_tflite.py::test_refusals[weights axis of the input]",
    ),
    Defect(
        "tflite reader: a bug of tinygen is called damage to the file",
        "tinygen/tflite/guard.py",
        '.startswith("tinygen.")',
        '.startswith("flatbuffers.")',
        "tests/test_hostile_tflite.py::test_only_what_the_parser_raises_is_damage",
    ),
    Defect(
        "tflite reader: options of another operator are taken",
        "tinygen/tflite/reader.py",
        "if type(options).__name__ != schema.options_name(self.kind):",
        "if schema.options_name(self.kind) is None:",
        "tests/test_hostile_tflite.py::test_options_and_operands_of_another_operator[options]",
    ),
    Defect(
        "tflite reader: scales of 0 are taken",
        "tinygen/tflite/parsing.py",
        "if not (np.isfinite(scale).all() and (scale > 0).all()):",
        "if not (np.isfinite(scale).all() and (scale >= 0).all()):",
        "tests/test_hostile_tflite.py::test_bad_scales",
    ),
    Defect(
        "tflite export: zero points are left out",
        "tinygen/tflite/writer.py",
        "zeroPoint=np.array(qparams.zero_point, np.int64)",
        "zeroPoint=np.zeros(len(qparams.zero_point), np.int64)",
        "tests/test_tflite_export.py::test_reference_equals_litert",
    ),
    Defect(
        "tflite export: scales always along dimension 0",
        "tinygen/tflite/writer.py",
        "quantizedDimension=dimension or 0",
        "quantizedDimension=0",
        "tests/test_tflite_export.py::test_tensors_have_names_shapes_types_and_quantization",
    ),
    Defect(
        "serialization: zero points are lost",
        "tinygen/serialization.py",
        '"zero_point": tuple(q["zero_point"])',
        '"zero_point": (0,) * len(q["scale"])',
        "tests/test_serialization.py::test_round_trip",
    ),
    # ---- samples, calibration, metrics
    Defect(
        "samples: NaN is refused only where all is NaN",
        "tinygen/samples.py",
        "if not finite.all():",
        "if not finite.any():",
        "tests/test_samples.py::test_values_that_are_no_float32",
    ),
    Defect(
        "samples: the integer grid of bytes has the wrong sign of its offset",
        "tinygen/samples.py",
        "_grid(scale, -128 - offset / scale)",
        "_grid(scale, -128 + offset / scale)",
        "tests/test_samples.py::test_eight_bit_samples_are_exact_in_int8",
    ),
    Defect(
        "calibrator: zero_point one step too high",
        "tinygen/calibrators.py",
        "round(-128 - self.low / scale)",
        "round(-127 - self.low / scale)",
        "tests/test_calibration.py::test_relu_outputs_start_at_minus_128",
    ),
    Defect(
        "calibrator: ranges need not hold 0",
        "tinygen/calibrators.py",
        "return cls(min(low, 0.0), max(high, 0.0))",
        "return cls(low, high)",
        "tests/test_calibration.py::test_constants_are_covered",
    ),
    Defect(
        "calibrator: the percentile cuts its whole share from each end",
        "tinygen/calibrators.py",
        "cut = (1 - share / 100) / 2",
        "cut = 1 - share / 100",
        "tests/test_calibration.py::test_percentile_cuts_its_share_from_each_end",
    ),
    Defect(
        "metrics: Wilson's interval too wide",
        "tinygen/metrics.py",
        "z2 / (4 * count**2)",
        "z2 / (4 * count)",
        "tests/test_metrics.py::test_wilson_interval",
    ),
    Defect(
        "metrics: ties count as wins in the AUC",
        "tinygen/metrics.py",
        "(last - (counts - 1) / 2.0)[inverse]",
        "last[inverse]",
        "tests/test_metrics.py::test_auc_is_that_of_scikit_learn",
    ),
)

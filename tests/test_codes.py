"""Samples for autoencoders from codes between and beyond those of the samples at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinygen.heavy import import_keras
from tinygen.pruning.codes import BEYOND, MOST, bottleneck, imagined

pytestmark = pytest.mark.tensorflow


def autoencoder(sequential: bool) -> Any:
    """(6,) -> 5 -> 2 -> 5 -> 6, linear: what it makes of codes is known."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(n, name=f"d{i}") for i, n in enumerate((5, 2, 5, 6))]
    if sequential:
        return keras.Sequential([keras.Input((6,)), *layers])
    given = tensor = keras.Input((6,))
    for layer in layers:
        tensor = layer(tensor)
    return keras.Model(given, tensor)


@pytest.mark.parametrize("sequential", [True, False])
def test_samples_are_outputs_for_other_codes_with_what_was_not_reconstructed(sequential: bool) -> None:
    model, rng = autoencoder(sequential), np.random.default_rng(0)
    x = rng.normal(3, 1, (50, 6)).astype(np.float32)
    made = imagined(model, x, 400, 7)
    assert made.shape == (400, 6) and made.dtype == np.float32
    np.testing.assert_array_equal(imagined(model, x, 400, 7), made)
    assert np.any(imagined(model, x, 400, 8) != made)
    # What is left of each when one sample's residual is taken off lies in the plane that the decoder reaches.
    outputs = model.predict(x, verbose=0)
    plane = np.linalg.svd(outputs - outputs.mean(axis=0))[2][:2]
    off = (made[:, np.newaxis] - (x - outputs)[np.newaxis]) - outputs.mean(axis=0)
    beside = np.linalg.norm(off - off @ plane.T @ plane, axis=-1).min(axis=1)
    assert beside.max() < 1e-3
    # Codes differ more than those at hand: by up to BEYOND differences, in the mean of squares by BEYOND ** 2 / 3.
    nearest = np.take_along_axis(
        off, np.linalg.norm(off - off @ plane.T @ plane, axis=-1).argmin(1)[:, None, None], 1
    )
    ratio = (nearest @ plane.T).var() / ((outputs - outputs.mean(axis=0)) @ plane.T).var()
    assert ratio == pytest.approx(1 + 2 * BEYOND**2 / 3, rel=0.3)


def test_the_bottleneck_is_found_in_chains_alone() -> None:
    keras = import_keras()
    model = autoencoder(False)
    assert model.layers[bottleneck(model) or 0].name == "d1"
    assert bottleneck(autoencoder(True)) is not None
    given = keras.Input((6,))
    hidden = keras.layers.Dense(2)(given)
    skipping = keras.Model(given, keras.layers.Add()([keras.layers.Dense(6)(hidden), given]))
    wide = keras.Model(given, keras.layers.Dense(6)(keras.layers.Dense(9)(given)))
    assert bottleneck(skipping) is None and bottleneck(wide) is None
    x = np.zeros((4, 6), np.float32)
    assert len(imagined(skipping, x, 10, 0)) == 0 and len(imagined(model, x, MOST + 5, 0)) == MOST
    assert len(model.layers[1]._inbound_nodes) == 1, "the original knows of no new calls"

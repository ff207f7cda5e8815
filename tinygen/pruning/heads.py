"""What a model's outputs mean, and how far a pruned model's are from the original's.

softmax: probabilities of classes (the logits in front of a final softmax are compared, exactly); sigmoid: independent
probabilities; linear: numbers, compared by squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tinygen.errors import ModelError
from tinygen.graph import Array
from tinygen.heavy import import_keras

Kind = Literal["softmax", "sigmoid", "linear"]
RANDOM_LAYERS = ("Dropout", "SpatialDropout", "AlphaDropout", "Gaussian")
"""How the class names of layers that only add noise in training begin."""


@dataclass(frozen=True)
class Head:
    """One output. variance: of the original's outputs on the data, > 0; squared errors are relative to it."""

    kind: Kind
    variance: float = 1.0


def copied(model: Any) -> Any:
    """The same model with variables of its own, not compiled. Raises ModelError where Keras cannot copy it."""
    keras = import_keras()
    try:
        entry = keras.saving.serialize_keras_object(model)
        copy = keras.saving.deserialize_keras_object(entry)
    except (TypeError, ValueError) as error:
        reason = f"'{model.name}' cannot be copied: {str(error).splitlines()[0]}"
        raise ModelError(f"{reason}\n  register the classes of its own layers with Keras") from error
    assign(copy, weights_of(model))
    return copy


def weights_of(model: Any) -> list[Array]:
    return [np.array(w.numpy()) for w in model.weights]


def assign(model: Any, weights: Sequence[Array]) -> None:
    """Set all variables; layers that compute with copies of them are told."""
    for variable, values in zip(model.weights, weights, strict=True):
        variable.assign(values)
    for layer in model._flatten_layers():
        getattr(layer, "finalize_state", lambda: None)()


def outputs_of(model: Any, inputs: Sequence[Any], training: bool = False) -> list[Any]:
    """Outputs in the order of model.outputs, of inputs in the order of model.inputs."""
    tree = import_keras().tree
    structure = getattr(model, "_inputs_struct", model.inputs[0])  # a Sequential takes one tensor
    flat: list[Any] = tree.flatten(model(tree.pack_sequence_as(structure, list(inputs)), training=training))
    return flat


def calls_of(model: Any, layer: Any) -> list[Any]:
    """Nodes of this layer in this model. A Sequential is built anew with every layer that is added, and the layers
    remember nodes of models that are gone."""
    by_depth = getattr(model, "_functional", model)._nodes_by_depth
    return [node for nodes in by_depth.values() for node in nodes if node.operation is layer]


def twin(model: Any) -> tuple[Any, tuple[Kind, ...]]:
    """A copy to train with, weights in the same order, and what each output was: all outputs of the copy are logits.

    All layers of the copy learn, none adds noise. A softmax or sigmoid that something else reads, too, stays.
    """
    copy = copied(model)
    copy.trainable = True
    for layer in copy._flatten_layers():
        layer.trainable = True
        if type(layer).__name__.startswith(RANDOM_LAYERS):
            layer.call = _identity
    return copy, tuple(_opened(tensor) for tensor in copy.outputs)


def _identity(inputs: Any, **_: Any) -> Any:
    return inputs


def _opened(tensor: Any) -> Kind:
    """Take the softmax or sigmoid off the layer that makes this output of a model."""
    history = tensor._keras_history
    layer = history.operation
    read_again = len(layer._inbound_nodes) > 1 or layer._inbound_nodes[0].outputs[0] is not tensor
    if hasattr(layer, "outputs") and hasattr(layer, "layers") and not read_again:
        return _opened(layer.outputs[history.tensor_index])
    if read_again or _readers(layer):
        return "linear"
    return _open(layer)


def _readers(layer: Any) -> list[Any]:
    return [node for node in layer._outbound_nodes if node.operation is not layer]


def _open(layer: Any) -> Kind:
    if type(layer).__name__ == "TimeDistributed":
        return _open(layer.layer)
    if type(layer).__name__ == "Softmax" and layer.axis in (-1, [-1], (-1,)):
        layer.call = _identity
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", "")
    if name not in ("softmax", "sigmoid"):
        return "linear"
    layer.activation = import_keras().activations.linear
    return "softmax" if name == "softmax" else "sigmoid"


# ---- losses, in TensorFlow


def loss(head: Head, logits: Any, target: Any, temperature: float = 1.0) -> Any:
    """Mean distance of a batch's outputs from the original's, both as logits: nats, or squares by the variance.

    KL divergence at this temperature times its square (gradients of equal size), per position for outputs of
    several axes.
    """
    import tensorflow as tf

    if head.kind == "linear":
        return tf.reduce_mean(tf.square(logits - target)) / head.variance
    soft = target / temperature
    if head.kind == "softmax":
        ours, theirs = tf.nn.log_softmax(logits / temperature), tf.nn.log_softmax(soft)
        divergence = tf.reduce_sum(tf.exp(theirs) * (theirs - ours), axis=-1)
    else:
        probability = tf.sigmoid(soft)
        ours = tf.nn.sigmoid_cross_entropy_with_logits(probability, logits / temperature)
        divergence = ours - tf.nn.sigmoid_cross_entropy_with_logits(probability, soft)
    return tf.reduce_mean(divergence) * temperature**2


def task_loss(head: Head, logits: Any, truth: Any) -> Any:
    """Mean loss of a batch against the truth: probabilities (N, classes), or numbers shaped like the output."""
    import tensorflow as tf

    if head.kind == "linear":
        return tf.reduce_mean(tf.square(logits - truth)) / head.variance
    if head.kind == "softmax":
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(truth, logits))
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, logits))


def truth_of(head: Head, labels: Array, shape: Sequence[int]) -> Array:
    """What task_loss takes, float32 (N, *shape), of labels: class indices, or numbers (N, *shape)."""
    if head.kind == "softmax" and labels.size == len(labels):
        classes = np.arange(shape[-1])
        return np.asarray(labels.reshape(-1, 1) == classes, np.float32)
    return np.asarray(labels, np.float32).reshape(len(labels), *shape)

"""Pruning: smaller Keras models out of Keras models. Internal so far: channel groups are removed on request."""

"""Quantization-aware training: weights and scales of the int8 graph are learned, with its own numerics."""

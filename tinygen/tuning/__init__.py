"""Kernels by count instead of by formula: every candidate of a layer is built and followed, and the best is kept."""

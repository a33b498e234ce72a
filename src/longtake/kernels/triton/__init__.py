"""Kernels for CUDA cards, reached through `longtake.kernels.ops` alone."""

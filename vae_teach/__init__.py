"""Variational autoencoders, measured: models, bounds and exact answers, in JAX."""

__version__ = "0.1.0"

"""Figures that move: with a kernel, without one, from a file on disk."""

from .elbo import ElboExplorer
from .latent import LatentExplorer
from .panel import TrainPanel

__all__ = ["ElboExplorer", "LatentExplorer", "TrainPanel"]

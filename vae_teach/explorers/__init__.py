"""Figures that move: with a kernel, without one, from a file on disk."""

from .blur import BlurExplorer
from .codebook import CodebookExplorer
from .collapse import CollapseExplorer
from .condition import ConditionExplorer
from .elbo import ElboExplorer
from .holes import HolesExplorer
from .interpolate import InterpolateExplorer
from .kl import KLExplorer
from .latent import LatentExplorer
from .loss_scale import LossScaleExplorer
from .panel import TrainPanel
from .reparameterization import ReparameterizationExplorer
from .rotate import RotateExplorer
from .schedules import SchedulesExplorer
from .traverse import TraverseExplorer

__all__ = [
    "BlurExplorer",
    "CodebookExplorer",
    "CollapseExplorer",
    "ConditionExplorer",
    "ElboExplorer",
    "HolesExplorer",
    "InterpolateExplorer",
    "KLExplorer",
    "LatentExplorer",
    "LossScaleExplorer",
    "ReparameterizationExplorer",
    "RotateExplorer",
    "SchedulesExplorer",
    "TrainPanel",
    "TraverseExplorer",
]

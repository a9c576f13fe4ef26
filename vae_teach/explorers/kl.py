"""The KL explorer: two divergences between the same two densities."""

from typing import Any, ClassVar

from .explorer import Explorer


class KLExplorer(Explorer):
    """Move q over a target p, and watch KL(q || p) and KL(p || q) as areas, in nats.

    The target is N(p_mean, p_scale²) ("normal"), or two humps of scale 0.5 which lie
    ``separation`` apart, the right one with probability ``weight`` ("humps").
    State: ``target`` and those four numbers, and q's ``mean`` and ``scale``.
    """

    name = "kl"
    title = "The Kullback-Leibler divergence, reverse and forward"
    notice = (
        "Press “Best reverse q” and pull the humps apart: KL(q ‖ p) stays at log 2 = "
        "0.693 nats, however far. The least KL(p ‖ q) grows like the log of the "
        "separation."
    )
    state: ClassVar[dict[str, Any]] = {
        "target": "humps",
        "p_mean": 0.0,
        "p_scale": 1.0,
        "separation": 4.0,
        "weight": 0.5,
        "mean": 0.6,
        "scale": 1.0,
    }

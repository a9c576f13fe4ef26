"""The one-dimensional ELBO explorer: a model whose evidence is known exactly."""

from typing import Any, ClassVar

from .explorer import Explorer


class ElboExplorer(Explorer):
    """Move q over the true posterior of one latent, and watch the bound and its gap.

    The prior is N(0, 1) and the likelihood N(f(z), 0.5²), with f(z) = z ("line": the
    posterior is normal) or f(z) = z² ("fold": it can have two modes).
    State: ``model``, the observation ``x``, and q's ``mean`` and ``scale``.
    """

    name = "elbo"
    title = "The evidence lower bound in one dimension"
    notice = (
        "Press “Best q”. On the line the gap closes; on the fold, for x = 2, it stops "
        "near log 2 = 0.69 nats, the price of covering one mode of two."
    )
    state: ClassVar[dict[str, Any]] = {
        "model": "fold",
        "x": 2.0,
        "mean": 0.5,
        "scale": 0.7,
    }

"""The latent explorer: a VAE with two latents, at every β from 0 to 64."""

from typing import Any, ClassVar

from . import trained
from .explorer import Explorer


class LatentExplorer(Explorer):
    """Move β and a point of the latent plane; encode, decode and draw digits.

    State: ``beta`` in [0, 64] and the point ``z``; None is the code of the digit.
    """

    name = "latent"
    title = "A VAE with two latents, at every β"
    notice = (
        "Raise β slowly: the clouds q(z|x) swell until they fill the prior's circles, "
        "and between β = 16 and β = 32 the whole map falls into one point."
    )
    modules = ("shared", "vae", "digits")
    state: ClassVar[dict[str, Any]] = {"beta": 1.0, "z": None}

    def payload(self) -> bytes:
        """Rounded weights, test digits and what was measured on the test split."""
        return trained.blob()

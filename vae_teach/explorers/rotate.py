"""The rotate explorer: turn the latent basis of a trained VAE."""

from typing import Any, ClassVar

from .explorer import HERE, Explorer

PLANES = 3  # pairs of latents that can be turned


class RotateExplorer(Explorer):
    """Turn two latents of a β-VAE of sprites about each other, by an angle.

    With R the rotation, the turned model has the prior N(0, I), the decoder g(R⁻¹z) and
    the posteriors R q(z|x): the same p(x), the same samples and the same ELBO. Its MIG
    falls, so nothing that sees only p(x) and p(z) can ask for it (Locatello et al.
    2019). A posterior with independent latents does see the basis, as far as the two
    have different variances: the ELBO of the turned model with the best such posterior
    is shown too.
    State: ``angle`` in degrees, from 0 to 90; ``plane``, which two latents: 0 turns two
    that move one factor each, 1 one of them and the next that is in use, 2 one of them
    and one that is not in use.

    Raises:
        ValueError: for an angle or a plane that there is not.

    """

    name = "rotate"
    title = "Turn the latent basis"
    notice = (
        "Turn to 45°: p(x) and the ELBO stay what they were to the last digit, and the "
        "samples come from the same distribution; yet each latent now moves x and y at "
        "once, and most of the MIG is gone."
    )
    modules = ("shared", "digits", "sprites")
    state: ClassVar[dict[str, Any]] = {"angle": 20, "plane": 0}

    def __init__(self, **state: Any):
        super().__init__(**state)
        angle, plane = self.start["angle"], self.start["plane"]
        if angle not in range(91):
            raise ValueError(f"Expected whole degrees from 0 to 90, got {angle}.")
        if plane not in range(PLANES):
            raise ValueError(f"Expected a plane from 0 to {PLANES - 1}, got {plane}.")

    def payload(self) -> bytes:
        """A rounded decoder, codes of sprites with their factors, measured ELBOs."""
        return (HERE / "weights/rotate.bin").read_bytes()

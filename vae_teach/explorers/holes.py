"""The holes explorer: where the prior samples, no code is, and what is drawn there."""

from typing import Any, ClassVar

from .explorer import HERE, Explorer

COMPONENTS = (1, 2, 4, 8, 16, 32, 64, 128)
PRIORS = ("normal", "mixture")


class HolesExplorer(Explorer):
    """Move a point over q(z) - p(z), find the holes, then fit a prior to the codes.

    q(z) is the mixture of the posteriors of all training digits, exact at the nodes of
    a grid; the point goes from node to node. The decoder is the latent explorer's at
    β = 1. State: the point ``z``, in [-4, 4]²; None is the deepest hole. ``prior``,
    "normal" or "mixture"; ``components`` of the mixture, a power of 2 up to 128;
    ``seed`` of the samples.

    Raises:
        ValueError: for another prior, another number of components or a point outside.

    """

    name = "holes"
    title = "Holes: where the prior samples and no code is"
    notice = (
        "Orange is where N(0, I) samples more than digits were encoded. Press “Next "
        "hole”: few samples fall into real holes. Then fit the prior, and see which "
        "numbers move and which stay."
    )
    modules = ("shared", "digits")
    state: ClassVar[dict[str, Any]] = {
        "z": None,
        "prior": "normal",
        "components": 32,
        "seed": 0,
    }

    def __init__(self, **state: Any):
        super().__init__(**state)
        start: dict[str, Any] = self.start
        if start["prior"] not in PRIORS:
            raise ValueError(
                f"Expected a prior among {PRIORS}, got {start['prior']!r}."
            )
        if start["components"] not in COMPONENTS:
            raise ValueError(
                f"Expected components among {COMPONENTS}, got {start['components']}."
            )
        z = start["z"]
        if z is not None and not (len(z) == 2 and all(abs(v) <= 4 for v in z)):
            raise ValueError(f"Expected two numbers from -4 to 4 as z, got {z}.")

    def payload(self) -> bytes:
        """The decoder, log q(z) and the judge's verdict on a grid, fitted mixtures."""
        return (HERE / "weights/holes.bin").read_bytes()

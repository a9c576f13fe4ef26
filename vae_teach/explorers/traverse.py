"""The traverse explorer: move every latent of trained β-VAEs of sprites."""

from typing import Any, ClassVar

from .explorer import HERE, Explorer

BETAS = (1.0, 2.0, 4.0, 8.0)
LATENTS = 8
STARTS = 5  # sprites whose code can be taken
SEEDS = ("best", "median")


class TraverseExplorer(Explorer):
    """Move each latent by itself and see which factor of the sprite moves with it.

    Trained models at each of ``BETAS``: of its seeds the best and the median by MIG.
    Latents are in the order of their KL, the largest first. Beside each is what it
    knows of each factor, the normalised mutual information I(z_j; v)/H(v). A factor
    counts as moved by one latent where the largest is above 0.5 and at least twice the
    second.
    State: ``beta``, one of ``BETAS``; ``seed``, "best" or "median"; ``start``, 0 for
    the mean of the prior or 1 to 5 for the code of a sprite; ``z``, 8 numbers, or
    None for the start's own; ``latent``, the one whose strip is shown, from 0.

    Raises:
        ValueError: for a state outside of these.

    """

    name = "traverse"
    title = "Move one latent at a time"
    notice = (
        "At β = 4 the two seeds differ by less than half a nat in KL and in "
        "distortion; yet the best gives x and y a latent each, and the median gives no "
        "factor one. Shape and rotation have none at any β."
    )
    modules = ("shared", "digits", "sprites")
    state: ClassVar[dict[str, Any]] = {
        "beta": 4.0,
        "seed": "best",
        "start": 1,
        "z": None,
        "latent": 0,
    }

    def __init__(self, **state: Any):
        super().__init__(**state)
        start: dict[str, Any] = self.start
        allowed = {
            "beta": BETAS,
            "seed": SEEDS,
            "start": range(STARTS + 1),
            "latent": range(LATENTS),
        }
        for name, values in allowed.items():
            if start[name] not in values:
                raise ValueError(
                    f"Expected {name} to be one of {[*values]}, got {start[name]!r}."
                )
        if start["z"] is not None:
            start["z"] = [float(v) for v in start["z"]]
            if len(start["z"]) != LATENTS:
                raise ValueError(
                    f"Expected z to be {LATENTS} numbers or None, got "
                    f"{len(start['z'])}."
                )

    def payload(self) -> bytes:
        """Rounded decoders, sprites and their codes, what each latent knows."""
        return (HERE / "weights/traverse.bin").read_bytes()

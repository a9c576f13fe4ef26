"""The blur explorer: what a squared error draws where many digits share a code."""

from typing import Any, ClassVar

from .explorer import HERE, Explorer


class BlurExplorer(Explorer):
    """Move σ² and a point of the latent plane; compare the decoder and the average.

    The plane is that of a VAE with 2 latents, trained on the digits that the page
    carries, so that Σ q(z|x_i) x_i / Σ q(z|x_i) is computed over all its data. Below, a
    VAE with more latents reconstructs test digits. Only β σ² counts: with β on a
    decoder of variance 1, read σ² as β.

    State: ``variance``, brought to the nearest position of the slider, and the point
    ``z``; None is the code of a digit.

    Raises:
        ValueError: for a variance that is not positive.

    """

    name = "blur"
    title = "Blur is an average of the data that share a code"
    notice = (
        "The loss is the same squared error at every σ². Raise σ²: posteriors overlap, "
        "and the decoder draws the average of the digits that share a code. Where none "
        "overlap, it is sharp."
    )
    modules = ("shared", "vae", "digits")
    state: ClassVar[dict[str, Any]] = {"variance": 2.6, "z": None}

    def __init__(self, **state: Any):
        super().__init__(**state)
        variance: Any = self.start["variance"]
        if not variance > 0:
            raise ValueError(f"Expected a positive variance, got {variance}.")

    def payload(self) -> bytes:
        """Rounded weights, the digits of the plane, reconstructions, measurements."""
        return (HERE / "weights/blur.bin").read_bytes()

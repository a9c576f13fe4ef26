"""The loss-scale explorer: the decoder's variance hidden in sums and means."""

from typing import Any, ClassVar, NamedTuple

from .explorer import HERE, Explorer


class Preset(NamedTuple):
    """A loss as somebody writes it: ``loss`` is the explorer's whole state."""

    group: str
    name: str
    about: str
    loss: dict[str, Any]


SUMS: dict[str, Any] = {
    "error_weight": 1.0,
    "half": False,
    "over_pixels": "sum",
    "error_over_batch": "mean",
    "kl_weight": 1.0,
    "over_latents": "sum",
    "kl_over_batch": "mean",
    "pixels": 784,
    "latents": 20,
    "batch": 128,
}
NUMBERS = ("error_weight", "kl_weight", "pixels", "latents", "batch")
REDUCED = ("over_pixels", "error_over_batch", "over_latents", "kl_over_batch")
COLOUR = 3 * 64 * 64  # pixels of a small colour image


def _ways(name: str, about: str, **loss: Any) -> Preset:
    return Preset("Ways to write it", name, about, SUMS | loss)


def _code(name: str, about: str, **loss: Any) -> Preset:
    return Preset("Public code, as read", name, about, SUMS | loss)


PRESETS = (
    _ways("SSE + KL, sums", "Error summed over pixels, KL over latents."),
    _ways(
        "½ SSE + KL, sums",
        "A Gaussian of unit variance, its constant left out.",
        half=True,
    ),
    _ways(
        "MSE + KL",
        "The error a mean over pixels, as mean-squared-error functions give it; "
        "the KL a sum over latents.",
        over_pixels="mean",
    ),
    _ways(
        "every mean: “normalised”",
        "Error a mean over pixels and KL a mean over latents.",
        over_pixels="mean",
        over_latents="mean",
    ),
    _ways(
        "one mean of all, KL summed",
        "The error a mean over batch and pixels at once, the KL a sum over batch and "
        "latents.",
        over_pixels="mean",
        kl_over_batch="sum",
    ),
    _code(
        "Pythae, VAE",
        "Its “mse” reconstruction loss, read at 6419e21 (July 2024).",
        half=True,
    ),
    _code(
        "VAE Explainer, Keras notebook",
        "Read at ceadc55 (October 2024); it has 2 latents.",
        latents=2,
    ),
    _code(
        "disentangling-vae, “gaussian”",
        "255 times the error, by computing it in [0, 255] and dividing by 255; read at "
        "f045219 (February 2023), with 10 latents.",
        error_weight=255.0,
        latents=10,
    ),
    _code(
        "PyTorch-VAE, vae.yaml",
        "A mean over 64 × 64 × 3 pixels, the KL weighed by 0.00025 (kld_weight); read "
        "at a6896b9 (December 2021), with 128 latents.",
        over_pixels="mean",
        kl_weight=0.00025,
        pixels=COLOUR,
        latents=128,
        batch=64,
    ),
    _code(
        "World Models in Keras, 2018",
        "10 times a mean over 64 × 64 × 3 pixels, KL a mean over 32 latents: as it was "
        "at 36ebabf (April 2018), later changed to sums.",
        error_weight=10.0,
        over_pixels="mean",
        over_latents="mean",
        pixels=COLOUR,
        latents=32,
        batch=32,
    ),
)


class LossScaleExplorer(Explorer):
    """Enter a loss as it is written, and read off the σ² of its Gaussian decoder.

    Then, exactly for a linear VAE on MNIST's digits: the latents it keeps in use, its
    rate, its squared error and its reconstructions.
    State: for each of the two terms its weight, whether it is a "sum" or a "mean" over
    pixels or latents and over the batch; ``half`` for ½ before the error; how many
    pixels, latents and examples a batch there are. ``PRESETS`` lists ready-made ones.

    Raises:
        ValueError: for a number that is not positive, or another word than "sum" or
            "mean".

    """

    name = "loss_scale"
    title = "The decoder variance that a loss implies"
    notice = (
        "A mean over 784 pixels in place of a sum multiplies σ² by 784: the line rises "
        "above every eigenvalue, and all digits become the average digit."
    )
    modules = ("shared", "digits")
    state: ClassVar[dict[str, Any]] = SUMS | {"over_pixels": "mean"}

    def __init__(self, **state: Any):
        super().__init__(**state)
        loss = self.state | state
        for name in NUMBERS:
            if not loss[name] > 0:
                raise ValueError(f"Expected a positive {name}, got {loss[name]}.")
        for name in REDUCED:
            if loss[name] not in ("sum", "mean"):
                raise ValueError(
                    f"Expected {name} to be 'sum' or 'mean', got {loss[name]!r}."
                )
        self.start["presets"] = [preset._asdict() for preset in PRESETS]

    def payload(self) -> bytes:
        """Eigenpairs of the training digits' covariance, their mean, test digits."""
        return (HERE / "weights/loss_scale.bin").read_bytes()

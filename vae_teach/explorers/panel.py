"""A panel of ipywidgets that trains a VAE where there is a kernel."""

import base64
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

from ..bounds import elbo
from ..data import Dataset, Split
from ..distributions import Bernoulli, Normal
from ..losses import mean_over_batch
from ..metrics import RateDistortion, active_units, rate_and_distortion
from ..models import VAE, Conditional
from ..networks import MLP
from ..priors import StandardNormal
from ..training import fit, minimise
from .stills import codes, png
from .trained import FOLDER

VIEW = "application/vnd.jupyter.widget-view+json"
HOW = (
    "This panel trains a VAE and needs a kernel: open this page in Colab or JupyterLab "
    "and run the cell. Below, what it drew for β = 1 after 5 epochs."
)


class TrainPanel:
    """Choose β, the number of latents and the epochs, and press Train.

    Another β or another number of epochs compiles nothing anew, another number of
    latents does once. ``beta``, ``latents``, ``epochs`` and ``button`` are the widgets;
    ``model``, ``measured`` and ``active`` are what the last training gave.

    Args:
        train: digits to fit.
        test: digits to measure on.

    """

    def __init__(self, train: Split, test: Split):
        import ipywidgets

        self.train, self.test = jnp.asarray(train.images), jnp.asarray(test.images)
        self.labels = test.labels
        # One step for all trainings: a new one would be compiled anew.
        self._step = minimise(mean_over_batch(elbo), optax.adam(2e-3))
        self.model: VAE | None = None
        self.measured: RateDistortion | None = None
        self.active = 0
        wide = {"style": {"description_width": "7em"}}
        self.beta = ipywidgets.FloatLogSlider(
            value=1, min=-1, max=1.8, step=0.1, description="β", **wide
        )
        self.latents = ipywidgets.IntSlider(
            value=2, min=1, max=16, description="latents", **wide
        )
        self.epochs = ipywidgets.IntSlider(
            value=5, min=1, max=30, description="epochs", **wide
        )
        self.button = ipywidgets.Button(description="Train", button_style="primary")
        self.says = ipywidgets.HTML("Choose, and press Train.")
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self.button.on_click(self._train)
        controls = [self.beta, self.latents, self.epochs, self.button]
        self.box = ipywidgets.VBox([*controls, self.says, self.picture])

    def _train(self, button):
        button.disabled, begun = True, time.perf_counter()
        self.says.value = "Training …"
        try:
            key, epochs = jr.key(0), self.epochs.value
            model = build(nnx.Rngs(0), self.latents.value)
            run = {"key": key, "epochs": epochs, "beta": self.beta.value}
            model, _ = fit(model, self._step, self.train, **run)
            self.model = model
            self.measured = rate_and_distortion(model, self.test, jr.key(1))
            self.active = int(active_units(model, self.test))
            self.picture.value = portrait(model, self.test, self.labels)
            self.says.value = self._verdict(time.perf_counter() - begun)
        finally:
            button.disabled = False

    def _verdict(self, seconds):
        rate, distortion, bound = (float(v) for v in self.measured or ())
        return (
            f"β = {self.beta.value:.2f}, {self.epochs.value} epochs, {seconds:.1f} s. "
            f"On test digits: rate <b>{rate:.1f}</b>, distortion "
            f"<b>{distortion:.1f}</b>, ELBO <b>{bound:.1f}</b> nats; "
            f"<b>{self.active}</b> of {self.latents.value} units active."
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict:
        """The widgets for a kernel; a picture and a line for a page."""
        # Written out, because ipywidgets 7 has no method that gives it.
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        data = {VIEW: view, "text/plain": "TrainPanel()"}
        if "google.colab" in sys.modules:  # which would show the picture
            return data
        picture = base64.b64encode((FOLDER / "panel.png").read_bytes()).decode()
        alt = "Encoded digits, test digits and their reconstructions at β = 1"
        image = f'<img alt="{alt}" src="data:image/png;base64,{picture}">'
        page = f'<div class="needs-kernel"><p>{HOW}</p>{image}</div>'
        return {**data, "text/html": page}


def build(rngs: nnx.Rngs, latents: int) -> VAE:
    """The panel's VAE: one hidden layer of 200 on each side."""
    encoder = MLP((28, 28, 1), 200, 2 * latents, rngs=rngs)
    return VAE(
        StandardNormal(latents),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(MLP(latents, 200, (28, 28, 1), rngs=rngs), Bernoulli),
    )


@jax.jit
def _encode_and_back(model, x):
    means = jax.vmap(lambda x: model.q_z(x).mean)(x)
    return means, jax.vmap(lambda z: model.p_x(z).mean)(means)


def portrait(model: VAE, x, labels) -> bytes:
    """A PNG: the first two latents of 300 digits, and ten digits with their copies."""
    means, copies = _encode_and_back(model, x[:300])
    plane = np.zeros((len(means), 2), np.float32)
    plane[:, : means.shape[1]] = means[:, :2]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    codes(left, plane, labels[:300].astype(np.uint8), 4.0)
    left.set_title("the first two latents", size=10)
    first = [int(np.flatnonzero(labels[:300] == d)[0]) for d in range(10)]
    rows = [np.asarray(rows)[first].reshape(2, 5, 28, 28) for rows in (x[:300], copies)]
    pairs = np.stack(rows, 1).reshape(4, 5, 28, 28).swapaxes(1, 2).reshape(112, 140)
    right.imshow(pairs, cmap="gray_r", vmin=0, vmax=1)
    right.set(xticks=[], yticks=[])
    right.set_title("test digits, each above its reconstruction", size=10)
    return png(figure)


def still(dataset: Dataset) -> bytes:
    """What the panel draws after the training it proposes."""
    train, test = (jnp.asarray(part.images) for part in (dataset.train, dataset.test))
    step = minimise(mean_over_batch(elbo), optax.adam(2e-3))
    model, _ = fit(build(nnx.Rngs(0), 2), step, train, key=jr.key(0), epochs=5, beta=1)
    return portrait(model, test, dataset.test.labels)

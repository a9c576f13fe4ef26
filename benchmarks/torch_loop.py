"""The model of ``small_vae`` in plain PyTorch, trained as in pytorch/examples."""

import jax
import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu

from .small_vae import linear_layers

DEVICE = "cuda" if jax.default_backend() == "gpu" else "cpu"


class Loop:
    """A copy of an MLP VAE and its Adam, and epochs that change them."""

    def __init__(self, model, images, *, fused: bool):
        self.layers = nn.ModuleList(map(_copy, linear_layers(model))).to(DEVICE)
        self.images = torch.tensor(np.asarray(images)).flatten(1).to(DEVICE)
        adam = torch.optim.Adam
        self.optimizer = adam(self.layers.parameters(), lr=1e-3, fused=fused)

    def epoch(self, batch_size: int) -> float:
        """Train on the images in random order; the last batch's loss in nats."""
        order = torch.randperm(len(self.images), device=DEVICE)
        for rows in order.split(batch_size):
            if len(rows) == batch_size:
                loss = self._loss(self.images[rows])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        return loss.item()

    def _loss(self, x):
        """The negative ELBO at one z, in nats an image."""
        into, head, out, paint = self.layers
        mean, log_variance = head(relu(into(x))).chunk(2, 1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        logits = paint(relu(out(z)))
        distortion = binary_cross_entropy_with_logits(logits, x, reduction="sum")
        rate = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        return (distortion + rate) / len(x)


def _copy(linear):
    """The same layer in PyTorch, whose matrices are transposed."""
    layer = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.asarray(linear.kernel[...]).T))
        layer.bias.copy_(torch.tensor(np.asarray(linear.bias[...])))
    return layer

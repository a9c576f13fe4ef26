"""The way Flax teaches: ``nnx.jit`` and ``nnx.Optimizer`` in a Python loop."""

import jax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx

from .small_vae import loss, mlp_vae, tx


@nnx.jit
def train_step(model, optimizer, batch, key):
    """One update in place, on the loss that ``fit`` is given."""

    def objective(model):
        return loss(model, batch, key)

    (value, _), grads = nnx.value_and_grad(objective, has_aux=True)(model)
    optimizer.update(model, grads)
    return value


class Loop:
    """A model and its optimiser, and epochs that change them."""

    def __init__(self, seed: int):
        self.model = mlp_vae(nnx.Rngs(seed))
        self.optimizer = nnx.Optimizer(self.model, tx, wrt=nnx.Param)

    def epoch(self, images, batch_size: int, key) -> jnp.ndarray:
        """The losses of one epoch: batches and keys are those of ``fit``'s first epoch.

        The images are shuffled on the device in one go, cheaper than batch by batch.
        """
        key_order, key_steps = jr.split(jr.fold_in(key, 0))
        steps = len(images) // batch_size
        order = jr.permutation(key_order, len(images))[: steps * batch_size]
        batches = images[order.reshape(steps, batch_size)]
        keys = jax.vmap(jr.fold_in, (None, 0))(key_steps, jnp.arange(steps))
        losses = [
            train_step(self.model, self.optimizer, batch, k)
            for batch, k in zip(batches, keys, strict=True)
        ]
        return jnp.stack(losses)

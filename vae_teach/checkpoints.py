"""Checkpoints of a training run: everything that the next epoch depends on."""

import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from .typing import History, PRNGKey


class Folder:
    """A folder with the newest checkpoint of one run, written by orbax.

    A checkpoint is complete or absent: a run killed while writing resumes from the one
    before.
    """

    def __init__(self, path: str | Path, every: int, run: dict):
        if every < 1:
            raise ValueError(
                f"Expected a checkpoint every 1 epoch or more, got {every}."
            )
        self.path, self.every, self.run = Path(path).absolute(), every, run

    def save(self, epoch: int, carry: PyTree, history: History):
        """Write the state after ``epoch`` epochs, and drop the one before."""
        import orbax.checkpoint as ocp

        record = {k: v.tolist() for k, v in history.items()}
        items = {
            "carry": ocp.args.StandardSave(_numbered(carry)),
            "record": ocp.args.JsonSave({"history": record, "run": self.run}),
        }
        with self._manager() as manager:
            manager.save(epoch, args=ocp.args.Composite(**items), force=True)

    def restore(self, carry: PyTree, epochs: int) -> tuple[int, PyTree, History]:
        """The newest (epoch, carry, history), or (0, carry, {}) where there is none.

        Raises:
            ValueError: if it is of another run or model, or past ``epochs``.

        """
        import orbax.checkpoint as ocp

        with self._manager() as manager:
            epoch = manager.latest_step()
            if epoch is None:
                return 0, carry, {}
            item = ocp.args.Composite(record=ocp.args.JsonRestore())
            record = manager.restore(epoch, args=item).record
            self._check(record["run"], epoch, epochs)
            item = ocp.args.StandardRestore(_numbered(carry))
            leaves = self._leaves(manager, epoch, ocp.args.Composite(carry=item))
        history = {k: np.asarray(v, np.float32) for k, v in record["history"].items()}
        leaves = [leaves[str(i)] for i in range(len(leaves))]
        return epoch, jax.tree.unflatten(jax.tree.structure(carry), leaves), history

    def _manager(self):
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            max_to_keep=1, enable_async_checkpointing=False
        )
        return ocp.CheckpointManager(self.path, options=options)

    def _check(self, before, epoch, epochs):
        changed = [name for name in self.run if before.get(name) != self.run[name]]
        if changed:
            raise ValueError(
                f"The checkpoint in {self.path} was made with another "
                f"{' and another '.join(changed)}: resume with the same, or give "
                "another folder for a new run."
            )
        if epoch > epochs:
            raise ValueError(
                f"The checkpoint in {self.path} has {epoch} epochs behind it, more "
                f"than the {epochs} asked for: ask for more, or give another folder."
            )

    def _leaves(self, manager, epoch, args):
        try:
            return manager.restore(epoch, args=args).carry
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"The checkpoint in {self.path} holds other arrays than this model and "
                "optimiser: build the same ones, or give another folder."
            ) from error


def fingerprint(data: PyTree, key: PRNGKey, batch_size: int, weights: dict) -> dict:
    """What must be the same for a resumed run to be the run that was stopped."""
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(data)]
    return {
        "data": [[str(a.dtype), *a.shape, zlib.crc32(a.data)] for a in leaves],
        "key": jr.key_data(key).tolist(),
        "batch_size": batch_size,
        "weights": {name: float(value) for name, value in weights.items()},
    }


def _numbered(carry):
    return {str(i): jnp.asarray(a) for i, a in enumerate(jax.tree.leaves(carry))}

"""Which latents collapse? Read off the data before training, then trained and counted.

A linear VAE keeps latent i where the i-th eigenvalue of the data covariance is above
the line t = β σ². It is trained at lines in the widest gaps of the spectrum, in the
basis of the first principal components, on the exact β-ELBO: in closed form over q, and
over all examples through their covariance. Then a VAE with a hidden layer is trained
over nine β, and counted against the same law, which was not derived for it. On a CPU
the rows are also written into the package, where the chapter on collapse reads them.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx

import vae_teach
from vae_teach import metrics, theory
from vae_teach.bounds import elbo
from vae_teach.data import load
from vae_teach.distributions import FixedScale, Normal
from vae_teach.linear import water_filling
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.training import fit_many, minimise

from .provenance import Report, about_data
from .small_vae import IMAGE

PACKAGED = Path(vae_teach.__file__).parent / "datasets" / "collapse.json"
LATENTS, COMPONENTS, VARIANCE = 20, 100, 0.5  # at σ² = 1/2 the loss is SSE + β KL
ACTIVE = 0.01  # nats, above which a latent is in use
GAP = 1.08  # between the eigenvalues on both sides of a line

RATES, MARKS = (1e-3, 3e-4), (500, 1000, 2000, 4000, 8000, 20_000)
BETAS, EPOCHS, HIDDEN = (0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0, 8.0, 12.0), 20, 128
BATCH = 64
LONGER, LONG = (2.0, 8.0), 60  # two β again: what of it is a matter of time?


# The linear VAE


class LinearEncoder(nnx.Module):
    """x -> (A x, s): a linear mean, and one log variance a latent for all x."""

    def __init__(self, size: int, latents: int, *, rngs: nnx.Rngs):
        self.mean = nnx.Linear(size, latents, use_bias=False, rngs=rngs)
        self.log_variance = nnx.Param(jnp.zeros(latents))

    def __call__(self, x):
        """The mean and the log variance, one after the other."""
        return jnp.concatenate([self.mean(x), self.log_variance[...]])


def linear_vae(rngs, size=COMPONENTS, latents=LATENTS) -> VAE:
    """Linear both ways, on centred data: a bias would have nothing to do."""
    decoder = nnx.Linear(latents, size, use_bias=False, rngs=rngs)
    return VAE(
        StandardNormal(latents),
        Conditional(LinearEncoder(size, latents, rngs=rngs), Normal.from_log_variance),
        Conditional(decoder, FixedScale(VARIANCE**0.5)),
    )


def linear_parts(model):
    """A (size, latents), log variances and W (latents, size), as they are stored."""
    encoder = model.encoder.network
    parts = encoder.mean.kernel, encoder.log_variance, model.decoder.network.kernel
    return tuple(part[...] for part in parts)


def exact_elbo(model, batch, key, *, beta=1.0):
    """The mean of ``elbo`` over centred data of diagonal covariance, and over q.

    ``batch`` holds the variances of the components, (1, d): one example is the whole
    data set. With x = Σ_i √λ_i e_i one by one, Σ_i |x_i - W A x_i|² is E|x - W μ(x)|².
    """
    del key
    encode, log_variances, decode = linear_parts(model)
    roots = jnp.sqrt(batch[0])
    means, variances = roots[:, None] * encode, jnp.exp(log_variances)
    errors = (jnp.diag(roots) - means @ decode) ** 2
    spread = ((decode**2).sum(1) * variances).sum()
    rates = 0.5 * ((means**2).sum(0) + variances - 1 - log_variances)
    error = errors.sum() + spread
    log_scale = len(roots) * jnp.log(2 * jnp.pi * VARIANCE)
    distortion = 0.5 * (log_scale + error / VARIANCE)
    value = distortion + beta * rates.sum()
    active = (rates > ACTIVE).sum()
    return value, {"rate": rates.sum(), "squared_error": error, "active": active}


def lines(eigenvalues, latents=LATENTS) -> dict[int, float]:
    """The line t by how many eigenvalues are above it: amid each wide gap, in logs.

    The first is above all eigenvalues, by half of the factor GAP.
    """
    ends = [eigenvalues[0] * GAP, *eigenvalues[: latents + 1]]
    gaps = {n: (ends[n], ends[n + 1]) for n in range(latents + 1)}
    return {n: (a * b) ** 0.5 for n, (a, b) in gaps.items() if a >= GAP * b * 0.999999}


def train_linear(eigenvalues, levels, keys, rate: float, steps: int, latents=LATENTS):
    """A model a line and key, trained at once; their terms at every step."""
    make = partial(linear_vae, size=len(eigenvalues), latents=latents)
    variances = jnp.asarray(eigenvalues, jnp.float32)
    repeated = jnp.tile(variances, (min(steps, 1000), 1))  # fit takes epochs of these
    betas = jnp.asarray(np.asarray(levels) / VARIANCE, jnp.float32)
    models = jax.vmap(lambda key: make(nnx.Rngs(key)))(keys)
    step = minimise(exact_elbo, optax.adam(rate))
    given = {"keys": keys, "steps": steps, "batch_size": 1}
    return fit_many(models, step, repeated, beta=betas, **given)


def rates_of(model, eigenvalues, rotate: bool):
    """KL of each latent, falling; ``rotate`` turns the axes of z to those of W.

    A rotation of z leaves the prior and, if the encoder turns too, every
    reconstruction. On the principal axes W has orthogonal columns.
    """
    parts = (np.asarray(part, np.float64) for part in linear_parts(model))
    encode, log_variances, decode = parts
    turn = np.linalg.svd(decode.T)[2] if rotate else np.eye(len(decode))
    means = (np.sqrt(np.asarray(eigenvalues))[:, None] * encode) @ turn.T
    variances = ((turn**2) * np.exp(log_variances)).sum(1)
    rates = 0.5 * ((means**2).sum(0) + variances - 1 - np.log(variances))
    return np.sort(rates)[::-1]


def linear_rows(
    eigenvalues, seeds: int, rate: float, marks=MARKS, latents=LATENTS
) -> list[dict]:
    """What was predicted at each line, and what each seed came to."""
    kept, levels = eigenvalues[:COMPONENTS], lines(eigenvalues, latents)
    every = np.repeat(list(levels.values()), seeds)
    keys = jnp.tile(jr.split(jr.key(0), seeds), len(levels))
    models, history = train_linear(kept, every, keys, rate, marks[-1], latents)
    rows = []
    for i, (predicted, level) in enumerate(levels.items()):
        filled = water_filling(kept, level, latents)
        these = range(i * seeds, (i + 1) * seeds)
        own = [jax.tree.map(lambda leaf, k=k: leaf[k], models) for k in these]
        at = np.array(marks) - 1
        row = {
            "level": level,
            "beta": level / VARIANCE,
            "predicted": predicted,
            "active": history["active"][these][:, at].tolist(),
            "predicted_rates": filled.rates[:latents].tolist(),
            "rates": [rates_of(m, kept, rotate=False).tolist() for m in own],
            "rotated": [rates_of(m, kept, rotate=True).tolist() for m in own],
            "rate": history["rate"][these][:, at].tolist(),
            "predicted_squared_error": float(filled.errors.sum()),
            "squared_error": history["squared_error"][these, -1].tolist(),
        }
        rows.append(row)
    return rows


# The VAE with a hidden layer


def deep_vae(rngs, hidden=HIDDEN, latents=LATENTS, shape=IMAGE) -> VAE:
    """Pixels -> hidden -> 2 x latents, and its mirror, with the same σ²."""
    encoder = MLP(shape, hidden, 2 * latents, rngs=rngs)
    decoder = MLP(latents, hidden, shape, rngs=rngs)
    return VAE(
        StandardNormal(latents),
        Conditional(encoder, Normal.from_log_variance),
        Conditional(decoder, FixedScale(VARIANCE**0.5)),
    )


_loss = mean_over_batch(elbo)  # one function for all calls: compiled once


def train_deep(images, betas, keys, epochs: int):
    """A model a β and key, trained at once."""
    models = jax.vmap(lambda key: deep_vae(nnx.Rngs(key)))(keys)
    run = partial(fit_many, epochs=epochs, batch_size=BATCH)
    step, betas = minimise(_loss, optax.adam(1e-3)), jnp.asarray(betas, jnp.float32)
    return run(models, step, images, keys=keys, beta=betas)[0]


def deep_rows(train, test, seeds: int, betas=BETAS, epochs=EPOCHS) -> list[dict]:
    """What the linear law predicts from the training digits, and what was trained."""
    values = theory.spectrum(np.reshape(train, (len(train), -1))).eigenvalues
    keys = jnp.tile(jr.split(jr.key(0), seeds), len(betas))
    models = train_deep(train, np.repeat(betas, seeds), keys, epochs)
    rows = []
    for i, beta in enumerate(betas):
        filled = water_filling(values, beta * VARIANCE, LATENTS)
        above = theory.predict_active_units(train, VARIANCE, beta)
        row = {
            "level": beta * VARIANCE,
            "beta": beta,
            "above": above,
            "predicted": min(above, LATENTS),
            "predicted_rates": filled.rates[:LATENTS].tolist(),
            "predicted_squared_error": float(filled.errors.sum()),
        }
        these = range(i * seeds, (i + 1) * seeds)
        found = [
            measure(jax.tree.map(lambda leaf, k=k: leaf[k], models), train, test)
            for k in these
        ]
        rows.append(row | {k: [one[k] for one in found] for k in found[0]})
    return rows


def measure(model, train, test) -> dict:
    """Of the test digits, and of as many training digits."""
    rates = np.sort(metrics.rate_per_unit(model, test))[::-1]
    return {
        "active": int((rates > ACTIVE).sum()),
        "active_units": int(metrics.active_units(model, test)),
        "rates": rates.tolist(),
        "rate": float(rates.sum()),
        "squared_error": squared_error(model, test),
        "train_squared_error": squared_error(model, train[: len(test)]),
    }


def squared_error(model, images) -> float:
    """E_q |x - x̂|², from -log p(x|z) = d/2 log 2πσ² + |x - x̂|²/2σ²; one z a digit."""
    distortion = metrics.rate_and_distortion(model, images, jr.key(1)).distortion
    constant = images[0].size / 2 * np.log(2 * np.pi * VARIANCE)
    return float(2 * VARIANCE * (distortion - constant))


def main():
    """Train, count, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    help = "measure this one anew, and keep what the file has of the others"
    parser.add_argument("--table", choices=("linear", "deep", "longer"), help=help)
    args = parser.parse_args()
    data = load("mnist12k")
    train, test = jnp.asarray(data.train.images), jnp.asarray(data.test.images)
    values = theory.spectrum(np.reshape(train, (len(train), -1))).eigenvalues
    report = Report(
        "collapse",
        data=about_data(data),
        seeds=args.seeds,
        latents=LATENTS,
        components=COMPONENTS,
        variance=VARIANCE,
        threshold=ACTIVE,
        marks=list(MARKS),
        epochs=EPOCHS,
        long_epochs=LONG,
        batch_size=BATCH,
        hidden=HIDDEN,
        eigenvalues=values[:COMPONENTS].tolist(),
        total_variance=float(values.sum()),
        commands={},
    )
    if args.table:
        _keep(report, args.table)
    for table, rows in tables(values, train, test, args.seeds).items():
        if args.table in (None, table):
            report.content["commands"][table] = report.content["provenance"]
            for row in rows():
                report.add(table=table, **row)
                print(f"{table} {row['level']:.3f} {row['predicted']} {row['active']}")
    if jax.default_backend() == "cpu" and data.name == "mnist12k":
        PACKAGED.write_text(json.dumps(json.loads(report.path.read_text())) + "\n")


def tables(values, train, test, seeds: int):
    """What makes the rows of each table."""

    def linear():
        for rate in RATES:
            for row in linear_rows(values, seeds, rate):
                yield {"learning_rate": rate} | row

    deep = partial(deep_rows, train, test, seeds)
    return {"linear": linear, "deep": deep, "longer": partial(deep, LONGER, LONG)}


def _keep(report, table: str):
    """Take the rows of the other tables, and how they came to be, from the file."""
    old = json.loads(report.path.read_text())
    same = "data", "seeds", "variance"
    if any(old[name] != report.content[name] for name in same):
        raise ValueError(
            f"Expected a file of the same {', '.join(same)}: run without --table."
        )
    report.content["rows"] = [row for row in old["rows"] if row["table"] != table]
    report.content["commands"] = old["commands"]


if __name__ == "__main__":
    main()

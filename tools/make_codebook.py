"""Train what the codebook explorer carries: part of ``make weights``.

Two VQ-VAEs of one recipe from one start, without and with restarts of dead codes. Every
number on the page is measured here with the weights as they are rounded. A prior over
the codes of each is learned too; the page has grids drawn from it, not the prior.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from tools.make_weights import provenance
from vae_teach import data
from vae_teach.bounds import elbo
from vae_teach.code_priors import CodePrior
from vae_teach.distributions import Bernoulli
from vae_teach.explorers import payload
from vae_teach.explorers.codebook import CODES, DIGITS, GRID
from vae_teach.explorers.explorer import HERE
from vae_teach.losses import mean_over_batch
from vae_teach.metrics import rate_and_distortion
from vae_teach.models import Conditional
from vae_teach.networks import GridDecoder, GridEncoder
from vae_teach.priors import UniformCodes
from vae_teach.quantisers import LearnedCodebook
from vae_teach.training import alternate, fit, minimise
from vae_teach.vq import VQVAE, restarts, usage, vq

IMAGE, PATCH, WIDTH, SIZE = (28, 28, 1), 4, 48, 16
MODELS = {"off": False, "on": True}  # restarts
EPOCHS, SEEDS, BATCH, RATE = 8, 3, 128, 2e-3
PRIOR_EPOCHS, PRIOR_WIDTH, KERNELS = 5, 24, (5, 3, 3)
SAMPLES = 48  # grids of the learned prior
SWAPS = 2_000  # of which it is measured how far a swap reaches
BRIEF = 25  # steps of a training that a test repeats
PLACES = GRID * GRID


def build(rngs: nnx.Rngs) -> VQVAE:
    """The VQ-VAE, its codebook at U(-1/K, 1/K)."""
    encoder = GridEncoder(IMAGE, PATCH, WIDTH, SIZE, rngs=rngs)
    decoder = GridDecoder(SIZE, WIDTH, PATCH, IMAGE, rngs=rngs)
    return VQVAE(
        UniformCodes((GRID, GRID), CODES),
        encoder,
        LearnedCodebook(CODES, SIZE, rngs=rngs),
        Conditional(decoder, Bernoulli),
    )


def train(x, seeds, steps: int, *, restarted: bool) -> list[VQVAE]:
    """By Adam on the codebook loss and the rest, each from the start of its seed."""
    rate = optax.cosine_decay_schedule(RATE, steps, 0.02)
    networks = minimise(mean_over_batch(vq), optax.adam(rate))
    players = {"restarts": restarts()} if restarted else {}
    step = alternate(networks=networks, **players)
    run = partial(fit, step=step, data=x, steps=steps, batch_size=BATCH)
    return [run(build(nnx.Rngs(seed)), key=jr.key(seed))[0] for seed in seeds]


# Rounding


def layers(model: VQVAE) -> dict[str, Any]:
    """The linear layers by the names that they have on the page."""
    networks = {"encoder": model.encoder, "decoder": model.decoder.network}
    names = {"encoder": ("embed", "mix", "head"), "decoder": ("embed", "mix", "paint")}
    return {
        f"{part}.{name}": getattr(network, name)
        for part, network in networks.items()
        for name in names[part]
    }


def packed(model: VQVAE, which: str) -> dict[str, payload.Rounded]:
    """Matrices at 8 bits; at 16 biases, and the vectors, of which some are tiny."""
    table = np.asarray(model.quantiser.table[...])
    found = {f"{which}.table": payload.rounded(table, 16)}
    for name, layer in layers(model).items():
        kernel, bias = (np.asarray(part[...]) for part in (layer.kernel, layer.bias))
        found[f"{which}.{name}.kernel"] = payload.rounded(kernel)
        found[f"{which}.{name}.bias"] = payload.rounded(bias[:, None], 16)
    return found


def unpacked(arrays: Mapping[str, np.ndarray], which: str) -> VQVAE:
    """The VQ-VAE that the page has."""
    model = build(nnx.Rngs(0))
    model.quantiser.table[...] = jnp.asarray(arrays[f"{which}.table"])
    for name, layer in layers(model).items():
        layer.kernel[...] = jnp.asarray(arrays[f"{which}.{name}.kernel"])
        layer.bias[...] = jnp.asarray(arrays[f"{which}.{name}.bias"].ravel())
    return model


def as_carried(model: VQVAE) -> VQVAE:
    """The same with the weights that the page has."""
    values = {name: part.values for name, part in packed(model, "w").items()}
    return unpacked(values, "w")


# Measuring


def codes_of(model: VQVAE, x) -> Int[Array, "n rows columns"]:
    """The codes of each image."""
    return jax.lax.map(lambda x: model.quantise(x).codes, x, batch_size=256)


def drawn(model: VQVAE, codes) -> Float[np.ndarray, "n places pixels"]:
    """What the decoder draws at each place: the means of p(x|z), cut into patches."""

    def one(z):
        likelihood: Any = model.p_x(z)
        return likelihood.mean

    images = np.asarray(jax.lax.map(one, codes, batch_size=256))
    cut = images.reshape(-1, GRID, PATCH, GRID, PATCH).swapaxes(2, 3)
    return cut.reshape(-1, PLACES, PATCH * PATCH)


def by_code(codes, patches) -> tuple[Float[np.ndarray, "k pixels"], float]:
    """The mean of what each code draws, and the share of the variance that it explains.

    That is 1 where a code draws the same patch whatever its neighbours are.
    """
    flat, p = np.asarray(codes).ravel(), patches.reshape(-1, patches.shape[-1])
    n = np.bincount(flat, minlength=CODES)
    sums = np.stack([np.bincount(flat, v, CODES) for v in p.T], 1)
    means = sums / np.maximum(n, 1)[:, None]
    between = (n[:, None] * (means - p.mean(0)) ** 2).sum()
    return means, float(between / ((p - p.mean(0)) ** 2).sum())


def reach_of_swaps(model: VQVAE, codes, key) -> float:
    """Of the squared change by a swap, the share in the code's own patch.

    One random place of an image gets the code that a random place elsewhere has.
    """
    rows, places, others = (
        jr.randint(k, (SWAPS,), 0, size)
        for k, size in zip(
            jr.split(key, 3), (len(codes), PLACES, codes.size), strict=True
        )
    )
    before = codes.reshape(-1, PLACES)[rows]
    after = before.at[jnp.arange(SWAPS), places].set(codes.ravel()[others])
    patches = [drawn(model, z.reshape(-1, GRID, GRID)) for z in (before, after)]
    change = ((patches[1] - patches[0]) ** 2).sum(-1)
    return float(change[np.arange(SWAPS), np.asarray(places)].sum() / change.sum())


def learned_prior(model: VQVAE, x, seed: int, epochs: int) -> VQVAE:
    """The same VQ-VAE with a prior over its codes, fitted to those of ``x``."""
    model = nnx.clone(model)
    size, rngs = (GRID, GRID), nnx.Rngs(seed)
    model.prior = CodePrior(size, CODES, PRIOR_WIDTH, KERNELS, rngs=rngs)
    rate = optax.cosine_decay_schedule(RATE, epochs * (len(x) // BATCH), 0.02)
    only: Any = nnx.All(nnx.Param, nnx.PathContains("prior"))
    step = minimise(mean_over_batch(elbo), optax.adam(rate), only)
    key = jr.key(100 + seed)
    return fit(model, step, x, key=key, epochs=epochs, batch_size=BATCH)[0]


@partial(jax.jit, static_argnames="count")
def samples(model: VQVAE, key, count: int) -> Int[Array, "count rows columns"]:
    """Grids drawn from the model's prior."""
    return jax.vmap(model.p_z().sample)(jr.split(key, count))


def numbers(model: VQVAE, exact: VQVAE, train_x, test_x) -> tuple[dict, dict]:
    """What the page says of a rounded model, and its arrays."""
    codes, used = codes_of(model, train_x), usage(model, train_x)
    means, explained = by_code(codes, drawn(model, codes))
    with_prior = learned_prior(model, train_x, 0, PRIOR_EPOCHS)
    here, there, full = (
        rate_and_distortion(m, test_x, jr.key(0)) for m in (with_prior, exact, model)
    )
    test_codes = np.asarray(codes_of(model, test_x)).reshape(len(test_x), -1)
    facts = {
        "share": used.share,
        "perplexity": used.perplexity,
        "distortion": full.distortion,
        "rounding": full.distortion - there.distortion,
        "rate": full.rate,
        "learned_rate": here.rate,
        "distinct": np.mean([len(np.unique(row)) for row in test_codes]),
        "explained": explained,
        "own": reach_of_swaps(model, codes_of(model, test_x), jr.key(1)),
    }
    grids = np.asarray(samples(with_prior, jr.key(2), SAMPLES))
    arrays = {
        "counts": np.asarray(used.counts, np.float32),
        "average": np.round(255 * means).astype(np.uint8),
        "samples": grids.reshape(SAMPLES, PLACES).astype(np.uint8),
    }
    return {name: round(float(value), 4) for name, value in facts.items()}, arrays


def content(trained: Mapping[str, list[VQVAE]], dataset: data.Dataset):
    """What the page carries, the first of each, and its facts, some of all."""
    x, test = (jnp.asarray(part.images) for part in (dataset.train, dataset.test))
    labels = np.asarray(dataset.test.labels)
    which = shown(labels)
    gray = np.round(255 * np.asarray(dataset.test.images[which])).astype(np.uint8)
    arrays: dict = {"digits": gray.reshape(len(which), -1)}
    facts: dict = {"train": len(x), "test": len(test), "models": {}}
    facts["labels"] = labels[which].tolist()
    for name, models in trained.items():
        said, extra = numbers(as_carried(models[0]), models[0], x, test)
        each = [usage(as_carried(model), x) for model in models]
        said["shares"] = [round(float(one.share), 4) for one in each]
        said["perplexities"] = [round(float(one.perplexity), 2) for one in each]
        facts["models"][name] = said
        arrays |= packed(models[0], name)
        arrays |= {f"{name}.{key}": value for key, value in extra.items()}
    return payload.pack(arrays, facts), facts


def shown(labels: np.ndarray) -> list[int]:
    """The first test digits of each class, in turn."""
    each = [np.flatnonzero(labels == digit)[: DIGITS // 10] for digit in range(10)]
    return [int(row) for turn in zip(*each, strict=True) for row in turn]


def brief(x, seeds) -> dict:
    """A training short enough for a test to repeat: steps; mean, sd and margin."""
    models = train(x, seeds, BRIEF, restarted=False)
    values = [float(rate_and_distortion(m, x, jr.key(0)).distortion) for m in models]
    mean, sd = np.mean(values), np.std(values, ddof=1)
    margin = max(5 * sd, 0.03 * mean)
    return {"steps": BRIEF, "distortion": np.round([mean, sd, margin], 3).tolist()}


def main():
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args, begun = parser.parse_args(), time.process_time()
    dataset = data.load("mnist12k")
    x, seeds = jnp.asarray(dataset.train.images), range(args.seeds)
    steps = args.epochs * (len(x) // BATCH)
    models = {
        name: train(x, seeds, steps, restarted=restarted)
        for name, restarted in MODELS.items()
    }
    blob, facts = content(models, dataset)
    record = provenance(dataset) | {
        "command": " ".join(["python -m tools.make_codebook", *sys.argv[1:]]),
        "seeds": [*seeds],
        "epochs": args.epochs,
        "prior_epochs": PRIOR_EPOCHS,
        **facts,
        "brief": brief(x, seeds),
        "bytes": len(blob),
        "cpu_seconds": round(time.process_time() - begun),
    }
    (HERE / "weights/codebook.bin").write_bytes(blob)
    text = json.dumps(record, indent=1) + "\n"
    (HERE / "weights/codebook.json").write_text(text)
    print(f"codebook.bin: {len(blob):,} bytes, {record['cpu_seconds']} s of CPU")


if __name__ == "__main__":
    main()

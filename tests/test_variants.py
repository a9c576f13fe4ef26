"""The contract that every variant keeps, whatever it swaps."""

from functools import partial

import jax
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from variants import VARIANTS, images

from vae_teach import epochs
from vae_teach.training import fit


@pytest.fixture(params=VARIANTS)
def variant(request):
    make, step = VARIANTS[request.param]
    return make(nnx.Rngs(0)), step


def leaves(model):
    return [np.asarray(a) for a in jax.tree.leaves(nnx.state(model))]


def test_loss_falls_and_the_model_given_is_left_as_it_was(variant):
    model, step = variant
    before = leaves(model)
    _, history = fit(model, step, images(), key=jr.key(0), epochs=12, batch_size=16)
    for name in [n for n in history if n.endswith("loss")]:
        first, last = history[name][:8].mean(), history[name][-8:].mean()
        if not name.startswith("encoder"):
            assert last < first
    assert all(np.isfinite(v).all() for v in history.values())
    for a, b in zip(before, leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_parameter_moves(variant):
    model, step = variant
    trained, _ = fit(model, step, images(), key=jr.key(0), epochs=2, batch_size=16)
    for a, b in zip(leaves(model), leaves(trained), strict=True):
        assert np.isfinite(b).all()
        assert (a != b).any()


def test_scan_equals_step_loop_bit_for_bit(variant):
    model, step = variant
    run = dict(key=jr.key(3), epochs=2, batch_size=16)
    scanned, history = fit(model, step, images(), **run)
    looped, by_step = fit(model, step, images(), **run, scan=False)
    # XLA compiles a convolution inside a loop into other arithmetic.
    convolves = any(isinstance(m, nnx.Conv) for _, m in nnx.iter_graph(model))
    compare = partial(
        np.testing.assert_allclose,
        **({"rtol": 1e-4, "atol": 1e-5} if convolves else {"rtol": 0}),
    )
    for a, b in zip(leaves(scanned), leaves(looped), strict=True):
        compare(a, b)
    for name in history:
        compare(history[name], by_step[name])


def test_second_fit_compiles_nothing(variant):
    model, step = variant
    run = dict(epochs=1, batch_size=16)
    model, _ = fit(model, step, images(), key=jr.key(0), **run)
    size = epochs.epoch._cache_size()
    fit(model, step, images(), key=jr.key(1), **run)
    assert epochs.epoch._cache_size() == size

"""M2 against brute force, and against a mixture of Gaussians that is solved exactly."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx

from vae_teach.bounds import elbo
from vae_teach.discrete import OneHotCategorical
from vae_teach.distributions import Bernoulli, Normal, kl
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional, Given
from vae_teach.networks import MLP
from vae_teach.priors import StandardNormal
from vae_teach.semi_supervised import M2, UNKNOWN, class_losses, keep_labels, m2
from vae_teach.training import fit, minimise

K, S = 4, 0.3
W = jnp.linalg.qr(jr.normal(jr.key(0), (6, 2)))[0] * jnp.array([[2.0, 1.0]])
MEANS = 0.7 * jr.normal(jr.key(1), (K, 6))
X = jr.normal(jr.key(2), (6,))


def decoder(z, y):
    return Normal(W @ z + y @ MEANS, jnp.full(6, S))


def encoder(x, y):
    """The exact posterior of z given x and the class."""
    precision = 1 + (W**2).sum(0) / S**2
    return Normal(W.T @ (x - y @ MEANS) / S**2 / precision, precision**-0.5)


def log_joint(x):
    """log p(x, y) of every class, z integrated out."""
    covariance = W @ W.T + S**2 * jnp.eye(6)
    logpdf = jax.scipy.stats.multivariate_normal.logpdf
    return jax.vmap(lambda m: logpdf(x, m, covariance))(MEANS) - jnp.log(K)


def mixture(classifier):
    return M2(VAE(StandardNormal(2), encoder, decoder), classifier)


def exact(x):
    return OneHotCategorical(log_joint(x))


def spoiled(x):
    return OneHotCategorical(0.3 * log_joint(x) + jnp.arange(K) / 2)


def mean_and_error(f, n=20_000):
    values = jax.vmap(f)(jr.split(jr.key(3), n))
    return values.mean(0), values.std(0) / np.sqrt(n)


def label(y=UNKNOWN):
    return jnp.asarray(y)


def networks(rngs, size=6, k=K):
    image = Conditional(MLP(2 + k, 8, size, rngs=rngs), Bernoulli)
    code = Conditional(MLP(size + k, 8, 4, rngs=rngs), Normal.from_log_variance)
    judge = Conditional(MLP(size, 8, k, rngs=rngs), OneHotCategorical)
    return M2(VAE(StandardNormal(2), code, image), judge)


def test_the_bound_of_a_class_is_its_evidence_where_the_posterior_is_exact():
    found, error = mean_and_error(lambda key: class_losses(mixture(exact), X, key))
    assert (abs(found + log_joint(X)) < 4 * error + 1e-4).all()


def test_the_label_picks_its_class_and_pays_the_classifier():
    model, key = mixture(spoiled), jr.key(4)
    losses = class_losses(model, X, key)
    for y in range(K):
        value, terms = m2(model, (X, label(y)), key, alpha=3.0)
        cross_entropy = -jax.nn.log_softmax(spoiled(X).logits)[y]
        np.testing.assert_allclose(terms["bound"], losses[y], rtol=1e-6)
        np.testing.assert_allclose(terms["classification"], cross_entropy, rtol=1e-5)
        np.testing.assert_allclose(value, losses[y] + 3 * cross_entropy, rtol=1e-6)


def test_the_labelled_bound_is_the_elbo_of_the_vae_with_that_class():
    model, key = networks(nnx.Rngs(0)), jr.key(5)
    x, y = jr.uniform(jr.key(6), (6,)), jax.nn.one_hot(2, K)
    value, _ = m2(model, (x, label(2)), key, alpha=0.0)
    q = model.vae.encoder(x, y)
    distortion = -model.vae.decoder(q.sample(key), y).log_prob(x)
    rate = kl(q, Normal(jnp.zeros(2), jnp.ones(2)))
    np.testing.assert_allclose(value, distortion + rate + np.log(K), rtol=1e-5)
    given = elbo(Given(model.vae, y), x, key)[0]
    np.testing.assert_allclose(value, given + np.log(K), rtol=1e-6)


def test_the_unlabelled_bound_is_the_sum_over_classes_by_brute_force():
    model, key = mixture(spoiled), jr.key(7)
    losses = np.asarray(class_losses(model, X, key), float)
    q = np.asarray(spoiled(X).mean, float)
    by_hand = sum(q[y] * (losses[y] + np.log(q[y])) for y in range(K))
    value, terms = m2(model, (X, label()), key, alpha=5.0)
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)
    assert terms["classification"] == 0


def test_with_both_posteriors_exact_the_unlabelled_bound_is_the_evidence():
    unlabelled = partial(m2, mixture(exact), (X, label()), alpha=1.0)
    found, error = mean_and_error(lambda key: unlabelled(key)[0])
    evidence = jax.nn.logsumexp(log_joint(X))
    assert abs(found + evidence) < 4 * error + 1e-4


def test_the_gap_of_the_unlabelled_bound_is_the_kl_of_the_classifier():
    unlabelled = partial(m2, mixture(spoiled), (X, label()), alpha=1.0)
    found, error = mean_and_error(lambda key: unlabelled(key)[0])
    gap = found + jax.nn.logsumexp(log_joint(X))
    assert kl(spoiled(X), exact(X)) > 0.1
    assert abs(gap - kl(spoiled(X), exact(X))) < 4 * error + 1e-4


def test_the_best_classifier_of_given_bounds_is_their_softmax():
    """Then the unlabelled bound is minus the log-sum-exp of the labelled ones."""
    key = jr.key(8)
    losses = class_losses(mixture(exact), X, key)
    best = mixture(lambda x: OneHotCategorical(-losses))
    value, _ = m2(best, (X, label()), key, alpha=1.0)
    np.testing.assert_allclose(value, -jax.nn.logsumexp(-losses), rtol=1e-5)
    other, _ = m2(mixture(spoiled), (X, label()), key, alpha=1.0)
    assert other > value


@pytest.mark.parametrize(
    ("y", "alpha", "moves"), [(-1, 0, True), (1, 0, False), (1, 2, True)]
)
def test_where_the_classifier_gets_a_gradient(y, alpha, moves):
    """From the unlabelled bound and from alpha, not from the labelled bound."""
    model, x = networks(nnx.Rngs(1)), jr.uniform(jr.key(9), (6,))
    graphdef, params = nnx.split(model)

    def loss(params):
        merged = nnx.merge(graphdef, params)
        return m2(merged, (x, label(y)), jr.key(10), alpha=float(alpha))[0]

    grads = jax.grad(loss)(params)
    of_classifier = jax.tree.leaves(grads["classifier"])
    assert any(bool((g != 0).any()) for g in of_classifier) == moves
    assert any(bool((g != 0).any()) for g in jax.tree.leaves(grads["vae"]))


def test_at_all_labels_it_is_the_conditional_bound_and_a_classification_loss():
    model, n = networks(nnx.Rngs(2)), 12
    x, y = jr.uniform(jr.key(11), (n, 6)), jnp.arange(n) % K
    value, terms = mean_over_batch(m2)(model, (x, y), jr.key(12), alpha=0.7)
    keys = jr.split(jr.key(12), n)
    bounds = [
        elbo(Given(model.vae, jax.nn.one_hot(c, K)), a, k)[0] + np.log(K)
        for a, c, k in zip(x, y, keys, strict=True)
    ]
    log_q = jax.nn.log_softmax(jax.vmap(lambda a: model.q_y(a).logits)(x))
    entropy = -log_q[jnp.arange(n), y].mean()
    np.testing.assert_allclose(terms["bound"], np.mean(bounds), rtol=1e-5)
    np.testing.assert_allclose(value, np.mean(bounds) + 0.7 * entropy, rtol=1e-5)


def test_a_few_labels_and_many_examples_find_the_classes():
    """Two far clusters, one label each: fit does it as it fits everything."""
    y = jnp.arange(200) % 2
    x = 0.05 + 0.9 * (jnp.tile(y[:, None], (1, 6)) == jnp.arange(6)[None] % 2)
    x = jnp.clip(x + 0.05 * jr.normal(jr.key(13), x.shape), 0, 1)
    kept = keep_labels(y, jr.key(14), per_class=1)
    model = networks(nnx.Rngs(3), k=2)
    step = minimise(mean_over_batch(m2), optax.adam(1e-2))
    data, run = (x, kept), dict(key=jr.key(15), epochs=15, batch_size=20)
    model, history = fit(model, step, data, **run, alpha=10.0)
    assert history["loss"][-1] < history["loss"][0]
    found = jax.vmap(lambda a: model.q_y(a).logits.argmax())(x)
    assert (found == y).mean() > 0.99


def test_labels_are_kept_class_by_class_at_random():
    labels = jr.randint(jr.key(16), (300,), 0, 5)
    kept = keep_labels(labels, jr.key(17), per_class=7)
    known = kept != UNKNOWN
    np.testing.assert_array_equal(jnp.bincount(kept[known], length=5), 7)
    np.testing.assert_array_equal(kept[known], labels[known])
    other = keep_labels(labels, jr.key(18), per_class=7)
    assert ((kept != UNKNOWN) != (other != UNKNOWN)).any()
    # Every example of a class may be kept: places have the mean of a uniform order.
    keys = jr.split(jr.key(19), 400)
    often = jnp.stack([keep_labels(labels[:40], k, per_class=2) >= 0 for k in keys])
    sizes = np.bincount(labels[:40])
    expected = 2 / sizes[np.asarray(labels[:40])]
    error = np.sqrt(expected * (1 - expected) / 400)
    assert (abs(often.mean(0) - expected) < 5 * error + 1e-9).all()


@pytest.mark.parametrize("per_class", [0, 4])
def test_more_labels_than_a_class_has_are_refused(per_class):
    with pytest.raises(
        ValueError, match=f"from 1 to 3 labels a class.*got {per_class}"
    ):
        keep_labels(jnp.array([0, 0, 0, 1, 1, 1, 1]), jr.key(0), per_class=per_class)

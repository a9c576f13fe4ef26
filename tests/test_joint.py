"""Joint latents: sums over parts, and models whose evidence and posterior are exact.

p(z) = N(0, I₂), p(y) = 1/10, x = (Wz + noise, e_y passed through logits): two blocks of
pixels, so that the true posterior is a product of its parts.
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flax import nnx

from vae_teach import metrics
from vae_teach.bounds import elbo, elbo_mc, elbo_relaxed
from vae_teach.discrete import OneHotCategorical, RelaxedCategorical, relaxed
from vae_teach.distributions import Bernoulli, Normal, kl
from vae_teach.joint import Product, elbo_enumerated, joint_capacity, part_rates
from vae_teach.losses import mean_over_batch
from vae_teach.models import VAE, Conditional
from vae_teach.networks import MLP
from vae_teach.priors import Fixed
from vae_teach.training import evaluate

K, S = 10, 0.3
W = jnp.linalg.qr(jr.normal(jr.key(0), (6, 2)))[0] * jnp.array([[2.0, 1.0]])
MEANS = 0.4 * jr.normal(jr.key(1), (K, 3))
X = jr.normal(jr.key(2), (9,))
PRIOR = Product((Normal(jnp.zeros(2), jnp.ones(2)), OneHotCategorical(jnp.zeros(K))))


class Mixed:
    """Pixels 0 to 5 from z, pixels 6 to 8 from the mean of the class."""

    def __init__(self, q):
        self.q_z = q

    def p_z(self):
        return PRIOR

    def p_x(self, code):
        z, y = code[:2], code[2:]
        return Normal(jnp.concatenate([W @ z, y @ MEANS]), jnp.full(9, S))


def class_scores(x):
    return jax.vmap(lambda m: Normal(m, jnp.full(3, S)).log_prob(x[6:]))(MEANS)


def exact(x):
    precision = 1 + (W**2).sum(0) / S**2
    z = Normal(W.T @ x[:6] / S**2 / precision, precision**-0.5)
    return Product((z, OneHotCategorical(class_scores(x))))


def wrong(x):
    q = exact(x)
    z = Normal(q.parts[0].loc + 0.1, 1.5 * q.parts[0].scale)
    return Product((z, OneHotCategorical(0.7 * q.parts[1].logits)))


def evidence(x):
    """log p(x), the class summed and z integrated out."""
    covariance = W @ W.T + S**2 * jnp.eye(6)
    of_z = jax.scipy.stats.multivariate_normal.logpdf(x[:6], jnp.zeros(6), covariance)
    return of_z + jax.nn.logsumexp(class_scores(x)) - jnp.log(K)


def draws(bound, model, n, key):
    return jax.vmap(lambda k: bound(model, X, k)[0])(jr.split(key, n))


def mean_and_error(values):
    return values.mean(), values.std() / np.sqrt(len(values))


# The distribution


def test_a_sample_is_the_parts_end_to_end():
    q = exact(X)
    code, log_q = q.sample_and_log_prob(jr.key(3))
    assert code.shape == (2 + K,)
    assert set(np.unique(code[2:])) == {0, 1}
    assert code[2:].sum() == 1
    np.testing.assert_array_equal(code, q.sample(jr.key(3)))
    z, y = q.split(code)
    expected = q.parts[0].log_prob(z) + q.parts[1].log_prob(y)
    np.testing.assert_allclose(log_q, expected, rtol=1e-6)
    np.testing.assert_allclose(q.log_prob(code), expected, rtol=1e-6)


def test_parts_are_independent_and_have_their_own_shapes():
    q = Product(
        (OneHotCategorical(jnp.zeros((2, 3))), Normal(jnp.ones(4), jnp.ones(4)))
    )
    codes = jax.vmap(q.sample)(jr.split(jr.key(4), 20_000))
    np.testing.assert_allclose(codes.mean(0), q.mean, atol=4 / np.sqrt(20_000))
    assert [part.shape for part in q.split(codes[0])] == [(2, 3), (4,)]
    across = np.corrcoef(codes.T)[:6, 6:]
    assert abs(across).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("size", [11, 13])
def test_a_vector_of_another_length_is_refused(size):
    with pytest.raises(ValueError, match=rf"12 numbers.*\({size},\)"):
        PRIOR.log_prob(jnp.zeros(size))


def test_the_kl_is_the_sum_over_the_parts_and_the_mean_log_ratio():
    q = wrong(X)
    rates = part_rates(q, PRIOR)
    for rate, a, b in zip(rates, q.parts, PRIOR.parts, strict=True):
        np.testing.assert_allclose(rate, kl(a, b), rtol=1e-6)
    np.testing.assert_allclose(kl(q, PRIOR), rates.sum(), rtol=1e-6)

    def log_ratio(key):
        code, log_q = q.sample_and_log_prob(key)
        return log_q - PRIOR.log_prob(code)

    mean, error = mean_and_error(jax.vmap(log_ratio)(jr.split(jr.key(5), 40_000)))
    assert abs(mean - rates.sum()) < 4 * error


def test_products_have_no_kl_to_anything_else():
    with pytest.raises(TypeError, match="Product and Normal"):
        kl(PRIOR, PRIOR.parts[0])
    with pytest.raises(TypeError, match="2 in the posterior and 1"):
        kl(PRIOR, Product(PRIOR.parts[:1]))
    with pytest.raises(TypeError, match="Normal and OneHotCategorical"):
        kl(PRIOR, Product(PRIOR.parts[::-1]))


# Bounds


@pytest.mark.parametrize("bound", [elbo_mc])
def test_with_the_exact_posterior_the_bound_is_the_evidence_at_every_code(bound):
    values = draws(bound, Mixed(exact), 50, jr.key(6))
    np.testing.assert_allclose(values, -evidence(X), rtol=1e-5)


@pytest.mark.parametrize("bound", [elbo, elbo_enumerated])
def test_the_gap_of_the_elbo_is_the_kl_to_the_true_posterior(bound):
    for q in (exact, wrong):
        mean, error = mean_and_error(draws(bound, Mixed(q), 40_000, jr.key(7)))
        gap = kl(q(X), exact(X))
        assert abs(evidence(X) + mean - gap) < 4 * error + 1e-4


def test_enumeration_is_the_weighted_sum_over_ten_classes():
    q, key = wrong(X), jr.key(8)
    z = q.parts[0].sample(key)
    value, terms = elbo_enumerated(Mixed(wrong), X, key, beta=3.0)
    costs = [-Mixed(wrong).p_x(jnp.concatenate([z, y])).log_prob(X) for y in jnp.eye(K)]
    by_hand = float(jnp.stack(costs) @ q.parts[1].mean)
    np.testing.assert_allclose(terms["distortion"], by_hand, rtol=1e-5)
    np.testing.assert_allclose(value, by_hand + 3 * kl(q, PRIOR), rtol=1e-5)


def test_enumeration_has_the_gradient_of_the_expectation():
    """In the logits: Σ_y ∂π_y f_y, where a draw of y has none at all."""

    def model(logits):
        return Mixed(lambda x: Product((exact(x).parts[0], OneHotCategorical(logits))))

    logits = jnp.linspace(-1, 1, K)
    found = jax.grad(lambda v: elbo_enumerated(model(v), X, jr.key(9))[0])(logits)
    z = exact(X).parts[0].sample(jr.key(9))
    p_x = model(logits).p_x
    costs = jnp.stack([-p_x(jnp.concatenate([z, y])).log_prob(X) for y in jnp.eye(K)])
    pi = jax.nn.softmax(logits)
    log_ratio = jnp.log(pi) + jnp.log(K)
    expected = pi * (costs + log_ratio - pi @ (costs + log_ratio))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_enumeration_wants_one_choice():
    two = Product((PRIOR.parts[0], OneHotCategorical(jnp.zeros((2, 5)))))
    for q in (two, PRIOR.parts[0], Product(PRIOR.parts[::-1])):
        with pytest.raises(TypeError, match="Product of a Normal and one"):
            elbo_enumerated(Mixed(lambda x, q=q: q), X, jr.key(0))


def test_the_relaxed_bound_relaxes_the_choice_alone():
    soft = relaxed(wrong(X), 0.5)
    assert isinstance(soft.parts[1], RelaxedCategorical)
    code = soft.sample(jr.key(10))
    np.testing.assert_array_equal(code[:2], wrong(X).sample(jr.key(10))[:2])
    assert 0 < code[2:].max() < 1
    value, terms = elbo_relaxed(Mixed(wrong), X, jr.key(10), temperature=0.5)
    np.testing.assert_allclose(terms["rate"], kl(wrong(X), PRIOR), rtol=1e-6)
    distortion = -Mixed(wrong).p_x(code).log_prob(X)
    np.testing.assert_allclose(value, distortion + terms["rate"], rtol=1e-6)
    with pytest.raises(TypeError, match="got Bernoulli"):
        relaxed(Bernoulli(jnp.zeros(2)), 0.5)


def test_a_cold_relaxed_bound_is_the_elbo():
    cold = partial(elbo_relaxed, temperature=1e-3)
    a, a_error = mean_and_error(draws(cold, Mixed(wrong), 40_000, jr.key(11)))
    b, b_error = mean_and_error(draws(elbo, Mixed(wrong), 40_000, jr.key(12)))
    assert abs(a - b) < 4 * np.hypot(a_error, b_error)


def test_each_part_has_its_capacity():
    rates = part_rates(wrong(X), PRIOR)

    def excess(off):
        first, second = rates + jnp.array(off)
        targets = {"continuous": first, "discrete": second}
        value, terms = joint_capacity(
            Mixed(wrong), X, jr.key(13), temperature=0.5, beta=7.0, **targets
        )
        found = terms["continuous"], terms["discrete"]
        np.testing.assert_allclose(jnp.stack(found), rates, rtol=1e-5)
        return (value - terms["distortion"]) / 7

    np.testing.assert_allclose(excess([0.0, 0.0]), 0, atol=1e-5)
    for off in ([0.5, -0.25], [-0.5, 0.25]):
        np.testing.assert_allclose(excess(off), 0.75, rtol=1e-4)
    free = partial(joint_capacity, temperature=0.5, beta=7.0)
    value, terms = free(Mixed(wrong), X, jr.key(13), continuous=rates[0] - 0.5)
    charged = value - terms["distortion"]
    np.testing.assert_allclose(charged, 3.5 + rates[1], rtol=1e-4)
    # Their sum may be on target while neither part is.
    np.testing.assert_allclose(excess([0.5, -0.5]), 1.0, rtol=1e-4)


def test_a_choice_that_ignores_x_meets_its_capacity():
    """The trap of a target for it: a full rate, and no information."""
    constant = OneHotCategorical(jnp.zeros(K).at[3].set(30.0))
    q = Product((PRIOR.parts[0], constant))
    given = {"temperature": 0.5, "continuous": 0.0, "discrete": jnp.log(K)}
    value, terms = joint_capacity(Mixed(lambda x: q), X, jr.key(0), **given)
    np.testing.assert_allclose(value, terms["distortion"], rtol=1e-5)
    np.testing.assert_allclose(terms["discrete"], np.log(K), rtol=1e-5)


# A whole model


def family(v):
    return Product((Normal.from_log_variance(v[:4]), OneHotCategorical(v[4:])))


def test_networks_priors_and_metrics_take_a_joint_code():
    rngs = nnx.Rngs(0)
    model = VAE(
        Fixed(PRIOR),
        Conditional(MLP(9, 8, 4 + K, rngs=rngs), family),
        Conditional(MLP(2 + K, 8, 9, rngs=rngs), Bernoulli),
    )
    data = jr.uniform(jr.key(14), (20, 9))
    found = metrics.rate_and_distortion(model, data, jr.key(15))
    rates = jax.vmap(lambda x: part_rates(model.q_z(x), PRIOR))(data)
    np.testing.assert_allclose(found.rate, rates.sum(1).mean(), rtol=1e-5)
    log_p = metrics.log_likelihood(model, data, jr.key(16), samples=50)
    assert log_p.mean() > found.elbo
    exact_sum = evaluate(mean_over_batch(elbo_enumerated), model, data, jr.key(15))
    np.testing.assert_allclose(exact_sum["rate"], found.rate, rtol=1e-5)
    assert 0 <= metrics.active_units(model, data) <= 2 + K

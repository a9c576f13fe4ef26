"""The reparameterization explorer: its numbers by quadrature, its page in Chromium."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browsing import box, changes, kernel, out, outputs, picture, point, press, settle
from scipy import stats

from vae_teach.explorers import ReparameterizationExplorer

STOPS = [1, 2, 5, 10, 20, 50, 100]
SETTINGS = [
    {"mu": mu, "sigma": sigma, "dimension": dimension, "baseline": baseline}
    for mu, sigma, dimension in [
        (1.0, 1.0, 1),
        (1.0, 1.0, 10),
        (1.0, 1.0, 100),
        (0.0, 1.0, 20),
        (-1.6, 0.4, 50),
        (2.0, 1.5, 5),
        (0.3, 0.25, 2),
    ]
    for baseline in (False, True)
]
every_setting = pytest.mark.parametrize(
    "at", SETTINGS, ids=lambda at: "-".join(map(str, at.values()))
)


# The score function's moments: Gauss-Hermite in the first coordinate, and the others'
# sum of squares by the cumulants of a noncentral chi-squared.


def others(mu, sigma, dimension):
    """Raw moments 0..4 of the sum of dimension - 1 squares of N(mu, sigma²)."""
    k, centre = dimension - 1, (dimension - 1) * (mu / sigma) ** 2
    factorial = np.array([1, 1, 2, 6])
    c = 2.0 ** np.arange(4) * factorial * (k + np.arange(1, 5) * centre)
    c *= sigma ** (2.0 * np.arange(1, 5))
    return np.array(
        [
            1.0,
            c[0],
            c[1] + c[0] ** 2,
            c[2] + 3 * c[1] * c[0] + c[0] ** 3,
            c[3] + 4 * c[2] * c[0] + 3 * c[1] ** 2 + 6 * c[1] * c[0] ** 2 + c[0] ** 4,
        ]
    )


def score_moments(mu, sigma, dimension, baseline):
    """Mean, variance and fourth central moment of one score-function estimate."""
    e, weight = np.polynomial.hermite_e.hermegauss(40)
    weight = weight / weight.sum()
    shift = (mu + sigma * e) ** 2
    if baseline:
        shift = shift - dimension * (mu**2 + sigma**2)
    rest = others(mu, sigma, dimension)
    choose = [[1], [1, 1], [1, 2, 1], [1, 3, 3, 1], [1, 4, 6, 4, 1]]
    raw = [
        sum(
            choose[n][j] * rest[j] * (weight @ ((e / sigma) ** n * shift ** (n - j)))
            for j in range(n + 1)
        )
        for n in range(5)
    ]
    mean, second = raw[1], raw[2] - raw[1] ** 2
    fourth = raw[4] - 4 * mean * raw[3] + 6 * mean**2 * raw[2] - 3 * mean**4
    return mean, second, fourth


def moments(at):
    """The same of both estimators; the pathwise one is N(2 mu, 4 sigma²)."""
    variance = 4 * at["sigma"] ** 2
    return {
        "pathwise": (2 * at["mu"], variance, 3 * variance**2),
        "score": score_moments(**at),
    }


def ratio(**at):
    _, score, _ = score_moments(**at)
    return score / (4 * at["sigma"] ** 2)


def test_quadrature_agrees_with_autodiff_of_many_draws():
    mu, sigma, dimension, n = 0.7, 0.8, 6, 200_000
    e = np.random.default_rng(0).normal(size=(n, dimension))

    def total(means, e):
        return jnp.sum((means + sigma * e) ** 2)

    pathwise = jax.vmap(jax.grad(total), (None, 0))(jnp.full(dimension, mu), e)[:, 0]
    f = ((mu + sigma * e) ** 2).sum(1)
    log_density = jax.vmap(
        jax.grad(lambda means, z: -((z - means) ** 2).sum() / (2 * sigma**2)),
        (None, 0),
    )(jnp.full(dimension, mu), mu + sigma * e)
    for baseline in (False, True):
        off = dimension * (mu**2 + sigma**2) if baseline else 0.0
        found = {"pathwise": pathwise, "score": (f - off) * log_density[:, 0]}
        at = {"mu": mu, "sigma": sigma, "dimension": dimension, "baseline": baseline}
        for name, (mean, variance, fourth) in moments(at).items():
            values = np.asarray(found[name], np.float64)
            assert abs(values.mean() - mean) < 4 * np.sqrt(variance / n), name
            error = np.sqrt((fourth - variance**2) / n)
            assert abs(values.var() - variance) < 5 * error, name


@pytest.mark.parametrize(
    ("dimension", "said", "off"), [(1, 8, 0.51), (10, 138, 0.51), (100, 10326, 50)]
)
def test_ratios_that_are_quoted_for_a_shifted_square(dimension, said, off):
    """f(z) = |z - 1|² at means 0 is |z|² at means -1; quoted rounded or as drawn."""
    found = ratio(mu=-1.0, sigma=1.0, dimension=dimension, baseline=False)
    assert abs(found - said) <= off
    same = ratio(mu=1.0, sigma=1.0, dimension=dimension, baseline=False)
    assert found == pytest.approx(same)


def test_sentence_says_what_the_figure_shows():
    ratios = [
        ratio(mu=1.0, sigma=1.0, dimension=d, baseline=False) for d in (1, 10, 100)
    ]
    notice = ReparameterizationExplorer.notice
    said = f"{ratios[0]:.1f}, {ratios[1]:.0f} and {ratios[2]:,.0f}"
    assert said in notice
    for baseline, power in ((False, 2), (True, 1)):
        far = [
            ratio(mu=1.0, sigma=1.0, dimension=d, baseline=baseline)
            for d in (1000, 2000)
        ]
        assert np.log2(far[1] / far[0]) == pytest.approx(power, abs=0.02)


# The page.


def number(text):
    return float(text.replace(",", "").replace("−", "-"))


def rounding(value):
    """Half a unit of the last place shown."""
    return 0.0051 if value < 9.995 else 0.051 if value < 99.95 else 0.51


def put(page, at):
    page.evaluate(
        "(at) => document.querySelector('.vae-explorer').explorer.change(at)", at
    )
    settle(page)


def estimates(page):
    found = page.evaluate("""() => {
        const { found } = document.querySelector(".vae-explorer").explorer.numbers();
        return Object.entries(found).map(([name, values]) => [name, [...values]]);
    }""")
    return {name: np.array(values) for name, values in found}


def epsilons(page):
    return page.evaluate("document.querySelector('.vae-explorer').explorer.epsilons()")


@pytest.fixture
def page(visit):
    return visit("reparameterization")


def test_exact_variances_are_those_of_quadrature(page):
    call = "(at) => document.querySelector('.vae-explorer').explorer.variances(at)"
    for at in SETTINGS:
        found, want = page.evaluate(call, at), moments(at)
        put(page, at)
        for name in ("pathwise", "score"):
            variance = want[name][1]
            assert found[name] == pytest.approx(variance, rel=1e-9)
            shown = number(out(page, name))
            assert shown == pytest.approx(variance, abs=rounding(variance))
        assert number(out(page, "gradient")) == pytest.approx(2 * at["mu"])
        want = want["score"][1] / want["pathwise"][1]
        assert number(out(page, "ratio")) == pytest.approx(want, abs=rounding(want))


@every_setting
def test_drawn_estimates_have_the_mean_and_variance_they_should(page, at):
    put(page, at)
    drawn, n = estimates(page), 2000
    for name, (mean, variance, fourth) in moments(at).items():
        values = drawn[name]
        assert len(values) == n
        assert mean == pytest.approx(2 * at["mu"], abs=1e-9)  # both are unbiased
        assert abs(values.mean() - 2 * at["mu"]) < 4 * np.sqrt(variance / n), name
        error = np.sqrt((fourth - variance**2) / n)
        assert abs(values.var(ddof=1) - variance) < 5 * error, name
        shown = number(out(page, f"{name}Drawn"))
        own = values.var(ddof=1)
        assert shown == pytest.approx(own, abs=rounding(own))
        middle, spread = out(page, f"{name}Mean").split(" ± ")
        assert number(middle) == pytest.approx(values.mean(), abs=0.0051)
        error = np.sqrt(own / n)
        assert number(spread) == pytest.approx(error, abs=rounding(error))


def test_noise_is_standard_normal_and_fixed_by_its_seed(page):
    call = """(seed) => [...document.querySelector(".vae-explorer").explorer
        .noise(seed, 2000)]"""
    one, again, other = (np.array(page.evaluate(call, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    for noise in (one, other):
        assert noise.size == 2000 * 100
        assert stats.kstest(noise, "norm").pvalue > 0.001
        rows = np.corrcoef(noise.reshape(-1, 100)[:, :10], rowvar=False)
        assert np.abs(rows - np.eye(10)).max() < 5 / np.sqrt(2000)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(one.size)


def test_moving_the_density_keeps_every_epsilon(page):
    kept, first = epsilons(page), estimates(page)
    image = lambda: picture(page, "mechanism")  # noqa: E731
    for key, times in (("mu", 40), ("sigma", 20)):
        keys = ["ArrowLeft"] * times
        press_it = lambda key=key, keys=keys: press(page, f"[data-in={key}]", *keys)  # noqa: E731
        changes(page, press_it, image, lambda: out(page, "scoreDrawn"))
        assert epsilons(page) == kept
    moved = estimates(page)  # 2z = 2(μ + σε), so every estimate is the old one moved
    np.testing.assert_allclose(
        moved["pathwise"], 2 * 0.6 + 0.8 * (first["pathwise"] - 2), atol=1e-9
    )
    changes(page, lambda: page.click("[data-do=resample]"), lambda: epsilons(page))


def test_dragging_the_density_moves_its_mean(page):
    kept, area = epsilons(page), box(page, "[data-canvas=mechanism]")

    def drag():
        page.mouse.move(*point(area, 0.6))
        page.mouse.down()
        page.mouse.move(*point(area, 0.35), steps=5)
        page.mouse.up()

    changes(page, drag, lambda: picture(page, "mechanism"), lambda: out(page, "mu"))
    assert number(out(page, "mu")) == pytest.approx(-1.5, abs=0.03)
    assert epsilons(page) == kept
    page.mouse.click(*point(area, 0.99))
    settle(page)
    assert out(page, "mu") == "2.00"  # as far as it goes


def test_every_control_works_by_keyboard_and_reset_undoes_them(page):
    start, images = outputs(page), ("pathwise", "score")
    read = [lambda n=n: picture(page, n) for n in images]
    seen = []
    press(page, "[data-in=stop]", "Home")
    for _ in STOPS:
        settle(page)
        seen.append(out(page, "stop"))
        text = page.get_attribute("[data-in=stop]", "aria-valuetext")
        assert text == seen[-1]
        press(page, "[data-in=stop]", "ArrowRight")
    assert [int(d) for d in seen] == STOPS
    tick = "[data-in=baseline]"
    changes(page, lambda: press(page, tick, "Space"), lambda: out(page, "score"), *read)
    changes(page, lambda: press(page, "[data-do=resample]", "Enter"), *read)
    press(page, "[data-do=reset]", "Enter")
    settle(page)
    assert outputs(page) == start
    assert not page.is_checked(tick)


def test_note_says_how_many_samples_one_is_worth(page):
    put(page, {"dimension": 100})
    page.wait_for_timeout(500)
    said = page.inner_text(".vx-note")
    want = ratio(mu=1.0, sigma=1.0, dimension=100, baseline=False)
    assert f"{want:,.0f} score-function samples" in said


def test_axis_counts_what_it_leaves_out(page):
    call = """() => {
        const { explorer } = document.querySelector(".vae-explorer");
        return explorer.numbers().reach;
    }"""
    for at in SETTINGS:
        put(page, at)
        reach, drawn = page.evaluate(call), estimates(page)
        outside = [(np.abs(v) > reach).mean() for v in drawn.values()]
        assert max(outside) < 0.03, at
        assert reach < 10 * max(v.std() for v in drawn.values()), at


def test_state_is_in_step_with_a_kernel(page):
    script = """
        k.model.set("dimension", 37);
        await k.frames(2);
        const shown = k.get("out=stop").value;
        k.type("mu", -0.5);
        await k.frames(2);
        k.clean();
        return [shown, k.sent.at(-1)];
    """
    explorer = ReparameterizationExplorer(seed=5, samples=500)
    shown, told = kernel(page, explorer, script)
    assert shown == "37"
    told = {name: told[name] for name in explorer.state}
    assert told == explorer.state | {
        "mu": -0.5,
        "dimension": 37,
        "seed": 5,
        "samples": 500,
    }


@pytest.mark.timing
def test_a_drag_is_fast(page):
    times = page.evaluate("""async () => {
        const { explorer } = document.querySelector(".vae-explorer"), times = [];
        explorer.change({ dimension: 100 });
        explorer.draw();
        for (let k = 0; k < 60; k++) {
            const begun = performance.now();
            explorer.change({ mu: Math.sin(k), sigma: 0.5 + 0.01 * k });
            explorer.draw();
            times.push(performance.now() - begun);
            await new Promise(requestAnimationFrame);
        }
        return times;
    }""")
    # Generous: a busy machine with two cores must pass. The aim is 16 ms.
    assert np.median(times) < 30, times

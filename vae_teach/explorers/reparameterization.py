"""The gradient of an expectation, estimated twice from the same draws."""

from typing import Any, ClassVar

from .explorer import Explorer


class ReparameterizationExplorer(Explorer):
    """Pathwise and score-function gradients of E f(z), and what a sample of each costs.

    z ~ N(μ 1, σ² I) has ``dimension`` coordinates and f(z) = Σ_d z_d². Both estimators
    are of the derivative with respect to the first mean, which is 2μ:

    - pathwise, 2 z₁ with z = μ + σε: variance 4σ²;
    - score function, f(z) (z₁ - μ)/σ²: variance μ⁴/σ² + 14μ² + 15σ²
      + [2m(μ² + 3σ²) + m² + V]/σ², where m = (D-1)(μ² + σ²) and
      V = (D-1)(4μ²σ² + 2σ⁴) are mean and variance of the other terms of f;
      with the ``baseline`` E f subtracted from f, 8μ² + 10σ² + V/σ².

    State: ``mu`` in [-2, 2], ``sigma`` in [0.25, 1.5], ``dimension`` in 1..100,
    ``baseline``, and the number of ``samples`` and ``seed`` of the draws.
    """

    name = "reparameterization"
    title = "Two estimators of one gradient"
    notice = (
        "At μ = σ = 1, move D to 1, 10 and 100: the ratio of variances is 7.5, 138 and "
        "10,353, in the end like D². With the baseline it grows like D."
    )
    state: ClassVar[dict[str, Any]] = {
        "mu": 1.0,
        "sigma": 1.0,
        "dimension": 10,
        "baseline": False,
        "samples": 2000,
        "seed": 1,
    }

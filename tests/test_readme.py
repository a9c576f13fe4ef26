"""The README's code runs, and what it names exists."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_has_fifteen_lines_and_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 15
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    loss = float(re.search(r"'loss': Array\(([\d.]+)", printed)[1])
    assert 100 < loss < 130


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"(\w+)\(", README.split("| variant |")[1])))
)
def test_every_name_of_the_swap_table_exists(name):
    import optax

    from vae_teach import (
        adversarial,
        autoregressive,
        bounds,
        code_priors,
        conditioning,
        dependence,
        distributions,
        factor,
        joint,
        likelihoods,
        losses,
        models,
        networks,
        perceptual,
        priors,
        quantisers,
        samplers,
        scales,
        schedules,
        semi_supervised,
        training,
        two_levels,
        vq,
    )

    known = {"partial", "load"}
    modules = [adversarial, autoregressive, bounds, dependence, distributions]
    modules += [likelihoods, losses, models, networks, optax, perceptual, scales]
    modules += [factor, priors, samplers, schedules, training, code_priors]
    modules += [conditioning, joint, quantisers, semi_supervised, two_levels, vq]
    assert name in known or any(hasattr(m, name) for m in modules)

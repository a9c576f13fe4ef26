"""A run that is stopped and resumed is the run that was never stopped."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest
from flax import nnx
from variants import MEAN_ELBO, PLAIN, VARIANTS, images, vae

from vae_teach.training import evaluate, fit

RUN = dict(key=jr.key(0), batch_size=16)


def validate(model, key):
    return evaluate(MEAN_ELBO, model, images(20), key)


def identical(a, b):
    leaves = [jax.tree.leaves(nnx.state(model)) for model in (a[0], b[0])]
    for x, y in zip(*leaves, strict=True):
        np.testing.assert_array_equal(x, y)
    assert a[1].keys() == b[1].keys()
    for name in a[1]:
        np.testing.assert_array_equal(a[1][name], b[1][name])


@pytest.mark.parametrize("name", ["VAE", "KL annealing", "alternate"])
def test_training_on_from_a_checkpoint_is_bit_identical(name, tmp_path):
    make, step = VARIANTS[name]
    model = make(nnx.Rngs(0))
    straight = fit(model, step, images(), epochs=5, validate=validate, **RUN)
    kept = dict(validate=validate, checkpoint=tmp_path, every=2, **RUN)
    fit(model, step, images(), epochs=2, **kept)
    identical(fit(model, step, images(), epochs=5, **kept), straight)


def test_a_finished_run_is_only_read_back(tmp_path):
    model = vae(nnx.Rngs(0))
    first = fit(model, PLAIN, images(), epochs=2, checkpoint=tmp_path, **RUN)
    never = PLAIN._replace(update=None)
    identical(fit(model, never, images(), epochs=2, checkpoint=tmp_path, **RUN), first)


KILLED = """
    import sys
    sys.path.insert(0, {tests!r})
    import jax.random as jr
    from flax import nnx
    from variants import PLAIN, images, vae
    from vae_teach.training import fit

    def report(model, key):
        print("epoch", flush=True)
        return {{}}

    fit(vae(nnx.Rngs(0)), PLAIN, images(), key=jr.key(0), batch_size=16,
        epochs=10**6, validate=report, checkpoint={folder!r})
"""


def test_a_killed_process_resumes_where_its_last_checkpoint_was(tmp_path):
    folder = tmp_path / "run"
    tests = str(Path(__file__).parent)
    code = textwrap.dedent(KILLED.format(tests=tests, folder=str(folder)))
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment
    ) as process:
        for _ in range(4):
            assert process.stdout.readline() == b"epoch\n"
        process.send_signal(signal.SIGKILL)
    done = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    assert done >= 3
    model = vae(nnx.Rngs(0))
    resumed = fit(
        model, PLAIN, images(), epochs=done + 3, checkpoint=folder, every=100, **RUN
    )
    identical(resumed, fit(model, PLAIN, images(), epochs=done + 3, **RUN))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    model = vae(nnx.Rngs(0))
    kept = dict(epochs=2, checkpoint=tmp_path)
    fit(model, PLAIN, images(), **kept, **RUN)
    with pytest.raises(ValueError, match="another key"):
        fit(model, PLAIN, images(), key=jr.key(1), batch_size=16, **kept)
    with pytest.raises(ValueError, match="another batch_size"):
        fit(model, PLAIN, images(), key=jr.key(0), batch_size=8, **kept)
    with pytest.raises(ValueError, match="another data"):
        fit(model, PLAIN, 0.9 * images(), **kept, **RUN)
    with pytest.raises(ValueError, match="another weights"):
        fit(model, PLAIN, images(), **kept, **RUN, beta=2.0)
    with pytest.raises(ValueError, match="2 epochs behind it, more than the 1"):
        fit(model, PLAIN, images(), epochs=1, checkpoint=tmp_path, **RUN)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    kept = dict(epochs=1, checkpoint=tmp_path)
    fit(vae(nnx.Rngs(0)), PLAIN, images(), **kept, **RUN)
    other, step = VARIANTS["convolutions"]
    with pytest.raises(ValueError, match="other arrays than this model"):
        fit(other(nnx.Rngs(0)), step, images(), **kept, **RUN)


def test_the_period_of_checkpoints_is_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="every 1 epoch or more"):
        fit(
            vae(nnx.Rngs(0)),
            PLAIN,
            images(),
            epochs=1,
            checkpoint=tmp_path,
            every=0,
            **RUN,
        )

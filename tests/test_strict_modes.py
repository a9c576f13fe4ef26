"""The contract tests again, as JAX and Flax will have it one day."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODES = {
    "tree mode of NNX": {"NNX_GRAPH_MODE": "false", "NNX_GRAPH_UPDATES": "false"},
    "key reuse checker": {"JAX_DEBUG_KEY_REUSE": "1"},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_variant_passes_in(mode):
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    files = [here / "test_variants.py", here / "test_training.py"]
    run = subprocess.run(
        [*command, *files], env=os.environ | MODES[mode], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-4000:]

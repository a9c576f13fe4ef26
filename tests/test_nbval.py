"""What the notebook tests see: an error in the callback of a slider is an error."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

SLIDER = """
import ipywidgets as widgets

slider, picture = widgets.FloatSlider(value=0.5, min=0.1, max=1), widgets.Label()


def show(change):
    picture.value = str(1 / (slider.value - {spoiled_at}))


slider.observe(show, "value")
slider
"""
DRIVER = "for value in (slider.min, slider.max):\n    slider.value = value"


def run(folder: Path, spoiled_at: float) -> subprocess.CompletedProcess:
    cells = [SLIDER.format(spoiled_at=spoiled_at), DRIVER]
    book = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, folder / "slider.ipynb")
    options = ["-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "slider.ipynb"],
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("spoiled_at", "passes"), [(2.0, True), (1.0, False)])
def test_an_error_planted_in_a_slider_callback_is_seen(tmp_path, spoiled_at, passes):
    found = run(tmp_path, spoiled_at)
    assert (found.returncode == 0) == passes, found.stdout
    assert ("ZeroDivisionError" in found.stdout) != passes

"""One colour for each part of the model: in plots, diagrams and explorers."""

import re
from xml.etree import ElementTree

import pytest

from tools.book import ROOT
from vae_teach import plots
from vae_teach.explorers.explorer import HERE

PARTS = {
    "encoder": plots.ENCODER,
    "latent": plots.LATENT,
    "decoder": plots.DECODER,
    "data": plots.DATA,
}
DIAGRAMS = sorted((ROOT / "book/_assets").glob("*.svg"))
COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}\b|\brgb\(")


def test_explorers_have_the_colours_of_the_plots():
    css = (HERE / "explorer.css").read_text()
    for part, colour in PARTS.items():
        assert f"--vx-{part}: {colour};" in css


@pytest.mark.parametrize("path", sorted(HERE.glob("*.js")), ids=lambda p: p.stem)
def test_drawings_name_their_colours(path):
    assert COLOUR.findall(path.read_text()) == []


@pytest.mark.parametrize("path", DIAGRAMS, ids=lambda p: p.stem)
def test_diagram_uses_the_palette_and_reads_on_any_page(path):
    found = {colour.lower() for colour in COLOUR.findall(path.read_text())}
    assert found <= {*PARTS.values(), plots.GREY}
    root = ElementTree.parse(path).getroot()
    titles = root.findall("{http://www.w3.org/2000/svg}title")
    assert titles or root.get("aria-label") or path.stem == "favicon"

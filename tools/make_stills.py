"""Photograph explorers: ``python -m tools.make_stills NAME...``.

Each is opened in Chromium from its own HTML, and its figure written as a small PNG
under vae_teach/explorers/weights/, for front-ends that run no scripts.
"""

import argparse
import io

from PIL import Image

from tools.browser import chromium
from vae_teach import explorers
from vae_teach.explorers.explorer import HERE, Explorer

WIDTH = 840  # of the figure, in pixels
LIMIT = 60_000  # bytes
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<style>body {{ margin: 0 }} .vae-explorer {{ margin: 0 !important }}
.vae-explorer .vx-evidence {{ display: none }} /* small print, and many bytes */</style>
<body>{}</body></html>"""


def table() -> dict[str, type[Explorer]]:
    """The explorers that the package exports, by name."""
    public = [getattr(explorers, name) for name in explorers.__all__]
    return {make.name: make for make in public if issubclass(make, Explorer)}


EXPLORERS = table()
DRAWN = {"latent"}  # by tools/make_weights.py, from several models


def still(browser, make: type[Explorer]) -> bytes:
    """The figure as a reader meets it, in the light."""
    bare = type("Bare", (make,), {"picture": lambda self: b""})
    size = {"width": WIDTH, "height": 900}
    context = browser.new_context(viewport=size, color_scheme="light", offline=True)
    page = context.new_page()
    page.set_content(PAGE.format(bare().html()))
    page.wait_for_function("document.querySelector('.vx-note')?.textContent")
    shot = page.locator(".vae-explorer").screenshot(animations="disabled")
    context.close()
    return small(shot)


def small(png: bytes) -> bytes:
    """The picture in as many colours, 128 at most, as fit into LIMIT bytes."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (128, 64, 32, 16):
        # Few hues on much grey: by the share of pixels the hues would be lost.
        few = image.quantize(
            colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        file = io.BytesIO()
        few.save(file, "png", optimize=True)
        if file.tell() <= LIMIT:
            return file.getvalue()
    raise ValueError(f"Expected a picture that fits into {LIMIT} bytes.")


def main():
    """Photograph the named ones, or all that show themselves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args().names or sorted(EXPLORERS.keys() - DRAWN)
    with chromium() as browser:
        for name in names:
            content = still(browser, EXPLORERS[name])
            (HERE / "weights" / f"{name}.png").write_bytes(content)
            print(f"{name}.png: {len(content):,} bytes")


if __name__ == "__main__":
    main()

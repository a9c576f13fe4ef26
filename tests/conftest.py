import os

import jax
import pytest

from tools import browser

jax.config.update("jax_numpy_rank_promotion", "raise")

# What imports the package is imported in fixtures: types are checked in what pytest
# itself imports later.


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Drop what a module compiled: each program holds memory maps of the process.

    Linux gives a process 65,530 of them, and XLA aborts where there is no more.
    """
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def chromium():
    """The browser of the system."""
    if browser.path() is None:
        say = pytest.fail if "CI" in os.environ else pytest.skip
        say("Found no Chromium: install it, or name it in CHROMIUM.")
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The page of an explorer by name; ``many`` has two of each."""
    from browsing import write

    folder = tmp_path_factory.mktemp("explorers")
    return lambda name: write(folder, name)


@pytest.fixture
def visit(chromium, files):
    """Open a page; at the end it must have asked for nothing and said nothing."""
    from browsing import settle

    contexts, said = [], []

    def go(name, width=1280, scheme="light", count=1, **options):
        size = {"width": width, "height": 900}
        context = chromium.new_context(
            viewport=size, color_scheme=scheme, offline=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: r.url.startswith("http") and said.append(r.url))
        page.goto(files(name).as_uri())
        page.wait_for_function(
            "n => [...document.querySelectorAll('.vae-explorer')]"
            ".filter(e => e.explorer).length === n",
            arg=count,
        )
        settle(page)
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []

"""The browser of the system: Chromium, for tests and for pictures."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def path() -> str | None:
    """Where it is: $CHROMIUM, or the first found."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, names)]
    return next(filter(None, found), None)


@contextmanager
def chromium() -> Iterator:
    """A running Chromium, as playwright's ``Browser``.

    Raises:
        FileNotFoundError: if there is none.

    """
    from playwright.sync_api import sync_playwright

    where = path()
    if where is None:
        raise FileNotFoundError(
            "Found no Chromium: install it, or name it in CHROMIUM."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=FLAGS)
        yield browser
        browser.close()

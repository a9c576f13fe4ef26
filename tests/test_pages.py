"""The built pages, read as files and looked at in Chromium; `make check-pages`."""

import re

import jax
import pytest

from tools.book import ROOT, Site, chapters, page_names
from tools.pages import HTML, broken_links, built, read
from tools.quiz import VERDICTS
from vae_teach.claims import entries

SHOTS = ROOT / "_build" / "screenshots"
TYPESET = "window.MathJax ? MathJax.startup.promise.then(() => true) : true"
TOO_WIDE = "document.documentElement.scrollWidth - window.innerWidth"
# Sphinx gives an image without words the name of its file.
SILENT = r"""images => images
    .filter(image => !image.alt.trim() || /\.(png|svg|jpe?g|gif|webp)$/.test(image.alt))
    .map(image => image.src.slice(0, 99))"""
PAGES = [f"{name}.html" for name in page_names()]


@pytest.fixture
def open_page(chromium):
    """Open a page with no network; ``problems`` gathers what went wrong."""
    contexts = []

    def opened(file, width, scheme):
        size = {"width": width, "height": 900}
        contexts.append(chromium.new_context(viewport=size, color_scheme=scheme))
        contexts[-1].route(re.compile("^(https?|wss?):"), lambda route: route.abort())
        page, problems = contexts[-1].new_page(), []
        page.on(
            "console",
            lambda m: m.type in ("error", "warning") and problems.append(m.text),
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda r: re.match("https?:|wss?:", r.url) and problems.append(r.url),
        )
        page.on("requestfailed", lambda r: problems.append(f"failed: {r.url[:99]}"))
        page.goto((HTML / file).as_uri())
        page.evaluate(TYPESET)
        page.wait_for_timeout(300)
        return page, problems

    yield opened
    for context in contexts:
        context.close()


def test_the_book_is_built():
    missing = [page for page in ("index.html", *PAGES) if not (HTML / page).is_file()]
    assert not missing, "run `make book` first"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("file", [*PAGES, "search.html", "genindex.html"])
def test_page_in_browser(open_page, file, width):
    page, problems = open_page(file, width, "light")
    SHOTS.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "scheme => document.documentElement.dataset.theme === scheme", arg=scheme
        )
        page.wait_for_timeout(200)
        assert page.evaluate(TOO_WIDE) <= 0
        name = file.removesuffix(".html").replace("/", "-")
        page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    assert page.eval_on_selector_all("img", SILENT) == []
    assert problems == []


@pytest.mark.parametrize("file", PAGES)
def test_page_is_not_heavy(file):
    limit = 2.5e6 if file == PAGES[0] else 1.5e6
    assert (HTML / file).stat().st_size <= limit


def test_links_lead_somewhere():
    broken = {path.name: broken_links(path) for path in built()}
    assert {name: links for name, links in broken.items() if links} == {}


CHAPTERS = [name for name in chapters() if name != page_names()[0]]


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_says_how_long_it_took(name):
    text = (HTML / f"{name}.html").read_text()
    assert re.search(r"The chapter ran in \d+ seconds\.", text)


@pytest.mark.parametrize("name", CHAPTERS)
def test_terms_are_linked_where_first_used(name):
    text = (HTML / f"{name}.html").read_text()
    linked = re.findall(r'href="glossary\.html#(term-[^"]+)"', text)
    assert len(linked) >= 5
    assert len(linked) == len(set(linked))


@pytest.mark.parametrize("name", CHAPTERS)
def test_quiz_works_without_scripts(chromium, name):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((HTML / f"{name}.html").as_uri())
    asked = page.locator(".quiz")
    assert 3 <= asked.count() <= 5
    for question in asked.all():
        assert question.locator(".quiz-right").count() == 1
        for option in question.locator(".quiz-option").all():
            answer = option.locator(".quiz-answer")
            assert not answer.is_visible()
            option.locator("summary").click()
            assert answer.is_visible()
            right = "quiz-right" in option.get_attribute("class")
            assert answer.inner_text().startswith(VERDICTS[right])
    context.close()


def test_every_claim_is_in_the_index():
    anchors = read(HTML / "book" / "claims.html").anchors
    assert {id.lower() for id in entries()} <= anchors


def test_build_page_lists_versions_and_times():
    text = (HTML / "book" / "build.html").read_text()
    assert jax.__version__ in text
    assert all(f"{name.removeprefix('book/')}.html" in text for name in CHAPTERS)


def test_every_public_module_is_in_the_reference():
    anchors = read(HTML / "book" / "api.html").anchors
    hidden = {"__init__", "_tfds", "typing", "checkpoints", "epochs", "failures"}
    names = {path.stem for path in (ROOT / "vae_teach").glob("*.py")} - hidden
    assert {f"module-vae_teach.{name}" for name in {*names, "explorers"}} <= anchors


@pytest.mark.parametrize("name", chapters())
def test_colab_button_opens_the_notebook(name):
    site = Site.read()
    repository = site.repository.removeprefix("https://github.com/")
    colab = "https://colab.research.google.com/github"
    link = f"{colab}/{repository}/blob/{site.branch}/{name}.ipynb"
    assert link in read(HTML / f"{name}.html").links
    assert (ROOT / f"{name}.ipynb").is_file()

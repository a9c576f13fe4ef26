"""The exported notebooks: in step with the chapters, and plain Markdown throughout."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.book import ROOT, Site, chapters, code_cells
from tools.claims_lint import unmeasured
from tools.notebooks import METADATA, fault, faults, is_checked, version
from tools.plain_markdown import RUN_TIME, Plain
from tools.references import Page

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
LEAKS = {
    "a directive": r"^\s*(`{3,}|:{3,}|~{3,})\s*\{",
    "a role": r"\{[a-z][\w:-]*\}`",
    "a label": r"^\([\w:.-]+\)=\s*$|^\$\$[ \t]*\([\w:.-]+\)",
    "a footnote": r"\[\^",
    "a comment": r"^%",
    "an option of a quiz": r"^- \[[ x]\]",
    "a path that only the book has": r"\]\((?!https?:)(?!#)|src=[\"'](?!https?:|data:)",
    "an import of myst_nb": r"myst_nb",
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture
def plain():
    page = Page("book/x", [], {"{eq}`a`": ("(1)", "https://x/x.html#a")})
    return Plain(page, "https://x/x.html")


@pytest.mark.filterwarnings("ignore")  # Sphinx and docutils, not this package
def test_every_notebook_is_what_its_chapter_gives():
    assert faults() == []


def test_there_is_a_notebook_for_each_chapter_with_code():
    assert [path.stem for path in NOTEBOOKS] == sorted(
        name.removeprefix("book/") for name in chapters()
    )


@pytest.mark.parametrize("leak", LEAKS)
def test_markdown_has_no(leak, notebook):
    for cell in notebook.cells:
        source = cell.source
        if cell.cell_type == "markdown":
            source = re.sub(r"^(`{3,}|~{3,})\w.*?^\1", "", source, flags=re.M | re.S)
        elif leak != "an import of myst_nb":
            continue
        found = re.search(LEAKS[leak], source, re.MULTILINE)
        assert not found, source


def test_install_comes_first_and_from_the_repository(notebook):
    first = code_cells(notebook)[0].source
    address = f"git+{Site.read().repository}@v{version(ROOT)}"
    assert address in first
    assert "--no-deps" in first
    assert first.index("import vae_teach") < first.index("%pip")


def test_metadata_is_only_the_kernel(notebook):
    assert notebook.metadata == METADATA


def test_only_checked_cells_have_output(notebook):
    for cell in code_cells(notebook):
        assert bool(cell.outputs) == is_checked(cell)
        assert "image/png" not in str(cell.outputs)


def test_an_edited_notebook_is_noticed(tmp_path):
    right = new_notebook(cells=[new_code_cell("1 + 1", id="a")], metadata=METADATA)
    wrong = new_notebook(cells=[new_code_cell("1 + 2", id="a")], metadata=METADATA)
    path = tmp_path / "x.ipynb"
    assert fault(right, path) == "missing"
    nbformat.write(wrong, path)
    assert fault(right, path) == "not what the chapter gives"
    nbformat.write(right, path)
    assert fault(right, path) is None


def test_an_output_that_was_stripped_is_noticed(tmp_path):
    cell = new_code_cell("1 + 1", id="a", metadata={"tags": ["nbval-check-output"]})
    notebook = new_notebook(cells=[cell], metadata=METADATA)
    nbformat.write(notebook, tmp_path / "x.ipynb")
    assert fault(notebook, tmp_path / "x.ipynb") == "a checked cell has no output"


@pytest.mark.parametrize(
    ("myst", "markdown"),
    [
        (
            "```{note}\nSee {eq}`a`.\n```",
            "> **Note**\n>\n> See [(1)](https://x/x.html#a).",
        ),
        ("$$\nx\n$$ (a)", "$$\nx\n\\tag{1}\n$$"),
        (
            "```{math}\n:label: a\nx \\\\ y\n```",
            "$$\n\\begin{split}\nx \\\\ y\n\\end{split}\n\\tag{1}\n$$",
        ),
        ("- one\n\n  :::{tip} Two\n  :::", "- one\n\n  > **Tip**\n  >\n  > Two"),
        ("```python\n{eq}`a`\n```", "```python\n{eq}`a`\n```"),
        ("(a)=\n## A\n% gone", "## A"),
        ("{runtime}`The chapter ran in`", RUN_TIME),
        (
            "```{quiz} Is $a$?\n- [x] See {eq}`a`.\n  b\n- [ ] c\n  d\n```",
            "**Is $a$?**\n\n<details>\n<summary>See [(1)](https://x/x.html#a)."
            "</summary>\n\nRight. b\n\n</details>\n\n"
            "<details>\n<summary>c</summary>\n\nNot so. d\n\n</details>",
        ),
        (
            "````{admonition} Why\n:class: dropdown\n```{tip}\nx\n```\n````",
            "<details>\n<summary>Why</summary>\n\n> **Tip**\n>\n> x\n\n</details>",
        ),
    ],
)
def test_myst_becomes_markdown(plain, myst, markdown):
    assert plain(myst) == markdown


@pytest.mark.parametrize("myst", ["{eq}`b`", "```{unheard-of}\n```", "![x](y.png)"])
def test_what_cannot_be_turned_is_an_error_that_names_the_page(plain, myst):
    with pytest.raises(SystemExit, match=r"book/x\.md"):
        plain(myst)


def test_a_claim_must_be_computed():
    assert list(unmeasured("claim('C001', measured=3, holds=True)")) == [1]
    assert list(unmeasured("x = 1\nc.claim('C001', holds=bool(1 < 2))")) == [2]
    assert list(unmeasured("claim('C001', measured=m, holds=m < 2)")) == []

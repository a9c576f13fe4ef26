"""Where the book's chapters are, and where readers find it."""

from dataclasses import dataclass
from pathlib import Path

import jupytext
import yaml
from nbformat import NotebookNode
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Site:
    """The addresses of the book, all derived from ``_config.yml``."""

    title: str
    repository: str
    branch: str
    pages: str

    @classmethod
    def read(cls, root: Path = ROOT) -> "Site":
        """Read ``_config.yml``; GitHub Pages unless ``html.baseurl`` says otherwise."""
        config = yaml.safe_load((root / "_config.yml").read_text())
        repository = config["repository"]["url"].rstrip("/")
        owner, name = repository.split("/")[-2:]
        pages = config.get("html", {}).get("baseurl")
        pages = pages or f"https://{owner}.github.io/{name}"
        branch = config["repository"]["branch"]
        return cls(config["title"], repository, branch, pages.rstrip("/"))

    def page(self, name: str) -> str:
        """The address of a page, such as ``book/preface``."""
        return f"{self.pages}/{name}.html"


def page_names(root: Path = ROOT) -> list[str]:
    """Every page in ``_toc.yml``, such as ``book/preface``."""
    return list(parse_toc_yaml(root / "_toc.yml"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def chapters(root: Path = ROOT) -> dict[str, NotebookNode]:
    """The pages that have code, parsed to notebooks."""
    sources = {name: root / f"{name}.md" for name in page_names(root)}
    parsed = {
        name: jupytext.read(path, fmt="md:myst") for name, path in sources.items()
    }
    return {name: book for name, book in parsed.items() if code_cells(book)}

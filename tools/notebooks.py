"""Write ``book/NAME.ipynb``, for Colab and the tests, beside each chapter with code.

``python -m tools.notebooks`` writes them; with ``--check`` it only says which are out
of step. Cells tagged ``nbval-check-output`` are executed when the code changed, or all
with ``--fresh``; no other cell keeps an output.
"""

import argparse
import hashlib
import sys
import tomllib
from copy import deepcopy
from pathlib import Path

import nbclient
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.book import ROOT, Site, chapters, code_cells
from tools.plain_markdown import Plain
from tools.references import Page, read_references

CHECKED = "nbval-check-output"
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
METADATA = {
    "colab": {"provenance": []},
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}
INSTALL = """\
# In Colab this installs the book's package, and leaves JAX and NumPy as they are.
try:
    import vae_teach
except ImportError:
    %pip install -q --no-deps "vae_teach @ {source}" jaxtyping wadler-lindig
    import vae_teach
import flax
import jax

print(
    f"vae_teach {{vae_teach.__version__}}, jax {{jax.__version__}}, "
    f"flax {{flax.__version__}}, on {{jax.default_backend()}}"
)
"""


def version(root: Path) -> str:
    """The package's version, which is also the tag that notebooks install."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]


def front(page: Page, text: str, site: Site, root: Path) -> list[NotebookNode]:
    """The title with a link to the book, the install cell, then the rest."""
    title, _, rest = text.partition("\n")
    link = f"*A chapter of [{site.title}]({site.page(page.name)}).*"
    source = f"git+{site.repository}@v{version(root)}"
    return [
        new_markdown_cell(f"{title}\n\n{link}"),
        new_code_cell(INSTALL.format(source=source).strip()),
        new_markdown_cell(rest.strip()),
    ]


def code(cell: NotebookNode, in_solution: bool) -> NotebookNode:
    """A code cell with its tags; what the page hides is folded here."""
    tags = cell.metadata.get("tags", [])
    metadata = {"tags": tags} if tags else {}
    if in_solution or HIDDEN & set(tags):
        metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
    return new_code_cell(cell.source, metadata=metadata)


def export(chapter: NotebookNode, page: Page, site: Site, root: Path) -> NotebookNode:
    """The notebook of a chapter, without outputs."""
    plain, cells, in_solution = Plain(page, site.page(page.name)), [], False
    for cell in chapter.cells:
        if cell.cell_type == "code":
            cells.append(code(cell, in_solution))
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if "caption" in figure:
                caption = plain.caption(figure.get("name"), figure["caption"])
                cells.append(new_markdown_cell(caption))
            continue
        starts = cell.source.rfind("{solution-start}")
        in_solution = starts > cell.source.rfind("{solution-end}") or (
            in_solution and "{solution-end}" not in cell.source
        )
        text = plain(cell.source)
        cells += [new_markdown_cell(text)] if cells else front(page, text, site, root)
    cells = [cell for cell in cells if cell.source]
    name_cells(cells)
    return new_notebook(cells=cells, metadata=deepcopy(METADATA))


def name_cells(cells: list[NotebookNode]) -> None:
    """Ids from the content, so that an edit changes the id of one cell only."""
    seen: dict[str, int] = {}
    for cell in cells:
        name = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"


def is_checked(cell: NotebookNode) -> bool:
    """Whether nbval compares the cell's output."""
    return CHECKED in cell.metadata.get("tags", [])


def fill(notebook: NotebookNode, stored: NotebookNode | None, folder: Path) -> None:
    """Give the checked cells their outputs: stored ones while no code cell changed."""
    cells = code_cells(notebook)
    if not any(map(is_checked, cells)):
        return
    if stored and [c.source for c in code_cells(stored)] == [c.source for c in cells]:
        done = code_cells(stored)
    else:
        run = deepcopy(notebook)
        nbclient.execute(run, cwd=str(folder), timeout=120)
        done = code_cells(run)
    for count, (cell, ran) in enumerate(zip(cells, done, strict=True), start=1):
        if is_checked(cell):
            cell.execution_count = count
            cell.outputs = [without_images(output) for output in ran.outputs]


def without_images(output: NotebookNode) -> NotebookNode:
    """The output as nbval compares it."""
    if "data" in output:
        kept = {k: v for k, v in output.data.items() if not k.startswith("image/")}
        output.data, output.metadata = kept, {}
    if "execution_count" in output:
        output.execution_count = None
    return output


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy to compare: outputs are for nbval to judge."""
    notebook = deepcopy(notebook)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    return notebook


def fault(notebook: NotebookNode, path: Path) -> str | None:
    """Why the stored notebook is out of step, if it is."""
    if not path.exists():
        return "missing"
    stored = nbformat.read(path, as_version=4)
    if without_outputs(stored) != notebook:
        return "not what the chapter gives"
    if not all(cell.outputs for cell in code_cells(stored) if is_checked(cell)):
        return "a checked cell has no output"
    return None


def exports(root: Path = ROOT) -> dict[Path, NotebookNode]:
    """Every notebook that belongs in the repository, by path."""
    pages, site = read_references(root), Site.read(root)
    return {
        root / f"{name}.ipynb": export(chapter, pages[name], site, root)
        for name, chapter in chapters(root).items()
    }


def faults(root: Path = ROOT) -> list[str]:
    """What is out of step, one line each."""
    found = exports(root)
    wrong = {path: fault(notebook, path) for path, notebook in found.items()}
    wrong |= dict.fromkeys({*(root / "book").glob("*.ipynb")} - {*found}, "no chapter")
    return [f"{path.relative_to(root)}: {why}" for path, why in wrong.items() if why]


def write(path: Path, notebook: NotebookNode, fresh: bool) -> None:
    """Write one notebook."""
    stored = None if fresh or not path.exists() else nbformat.read(path, as_version=4)
    fill(notebook, stored, path.parent)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--fresh", action="store_true", help="execute again")
    options = parser.parse_args()
    if options.check:
        wrong = faults()
        if wrong:
            sys.exit("\n".join([*wrong, "run `make notebooks`"]))
        return
    for path, notebook in exports().items():
        write(path, notebook, options.fresh)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()

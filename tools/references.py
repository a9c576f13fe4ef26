"""What each cross-reference of the book says and where it leads, as Sphinx sees it."""

import posixpath
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import jupytext
from docutils import nodes
from jupyter_book.config import get_final_config
from nbformat.v4 import new_markdown_cell
from sphinx.application import Sphinx
from sphinx.builders.dummy import DummyBuilder
from sphinx.util.docutils import docutils_namespace, patch_docutils

from tools.book import Site

ROLE = re.compile(r"\{([a-z][\w:-]*)\}(`+)(.+?)\2", re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\((?!\w+:)([^()\s]+)\)")
# Labels of what Sphinx numbers, and the role that says the number.
LABELS = (
    (re.compile(r"^\$\$[ \t]*\(([\w:.-]+)\)[ \t]*$", re.MULTILINE), "eq"),
    (re.compile(r"\{math\}\n:label: *([\w:.-]+)"), "eq"),
    (re.compile(r"^ *:name: *([\w:.-]+)", re.MULTILINE), "numref"),
    (re.compile(r"\{exercise(?:-start)?\}.*\n:label: *([\w:.-]+)"), "numref"),
    (re.compile(r"\{prf:(?!proof).*\n:label: *([\w:.-]+)"), "prf:ref"),
)


@dataclass
class Page:
    """What the references of one page became."""

    name: str
    references: list[str]
    resolved: dict[str, tuple[str, str]] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, source: str) -> tuple[str, str]:
        """Text and address of a reference, given as the source has it."""
        return self.find(self.resolved, " ".join(source.split()))

    def image(self, path: str) -> str:
        """The public address of an image, given relative to the page."""
        folder = posixpath.dirname(self.name)
        return self.find(self.images, posixpath.normpath(posixpath.join(folder, path)))

    def find(self, known, key):
        """Look up, or stop with the name of the page."""
        if key not in known:
            raise SystemExit(f"{self.name}.md: {key} leads nowhere")
        return known[key]


def references_in(text: str) -> list[str]:
    """Each distinct reference in the text, and one to each thing that has a number."""
    found = [match[0] for pattern in (ROLE, LINK) for match in pattern.finditer(text)]
    for pattern, role in LABELS:
        found += [f"{{{role}}}`{match[1]}`" for match in pattern.finditer(text)]
    return list(dict.fromkeys(" ".join(reference.split()) for reference in found))


def figure_of(cell) -> str:
    """A figure directive with the name and caption that a code cell's output has."""
    figure = cell.metadata.get("mystnb", {}).get("figure")
    if not figure:
        return ""
    name, caption = figure.get("name", ""), figure.get("caption", "")
    return f"```{{figure}} none.png\n:name: {name}\n\n{caption}\n```"


def without_code(text: str) -> str:
    """The page without its code cells, but with their figures: nothing to execute."""
    book = jupytext.reads(text, fmt="md:myst")
    book.cells = [
        cell if cell.cell_type == "markdown" else new_markdown_cell(figure_of(cell))
        for cell in book.cells
    ]
    return jupytext.writes(book, fmt="md:myst")


def markdown_of(node: nodes.Node) -> str:
    """The text of a reference, with its maths."""
    if isinstance(node, nodes.math):
        return f"${node.astext()}$"
    return "".join(map(markdown_of, node.children)) if node.children else node.astext()


class ReferencesBuilder(DummyBuilder):
    """Reads the book, and instead of writing pages keeps what references became."""

    name = "references"
    site: Site
    pages: dict[str, Page]

    def get_target_uri(self, docname: str, typ: str | None = None) -> str:
        """As the HTML builder names pages."""
        return f"{docname}.html"

    def append_probes(self, app: Sphinx, docname: str, source: list[str]) -> None:
        """End the page with each of its references alone in a container."""
        text = without_code(source[0])
        self.pages[docname] = Page(docname, references_in(text))
        probes = [
            f"\n\n::::{{container}} probe\n{reference}\n::::"
            for reference in self.pages[docname].references
        ]
        source[0] = text + "".join(probes)

    def address(self, docname: str, link: nodes.reference) -> str:
        """The absolute address of a link on a page."""
        uri = link.get("refuri") or f"#{link['refid']}"
        if urlsplit(uri).scheme:
            return uri
        # The anchors of citations count up: one more would change every notebook.
        uri = re.sub(r"#id\d+$", "", uri)
        if uri.startswith("#"):
            uri = posixpath.basename(self.get_target_uri(docname)) + uri
        path = posixpath.join(posixpath.dirname(docname), uri)
        return f"{self.site.pages}/{posixpath.normpath(path)}"

    def write_doc(self, docname: str, doctree: nodes.Node) -> None:
        """Keep the text and the address of each probe that leads somewhere."""
        page = self.pages[docname]
        boxes = doctree.findall(nodes.container)
        probes = [box for box in boxes if "probe" in box["classes"]]
        for reference, probe in zip(page.references, probes, strict=True):
            for link in list(probe.findall(nodes.reference))[:1]:
                address = self.address(docname, link)
                page.resolved[reference] = (markdown_of(probe).strip(), address)
        for image in doctree.findall(nodes.image):
            if image["uri"] in self.env.images:
                file = self.env.images[image["uri"]][1]
                page.images[image["uri"]] = f"{self.site.pages}/_images/{file}"


def read_references(root: Path) -> dict[str, Page]:
    """Let Sphinx read the whole book, executing nothing: its numbers are the page's."""
    config, _ = get_final_config(
        user_yaml=root / "_config.yml",
        cli_config={"latex_individualpages": False},
        sourcedir=root,
    )
    confdir = None
    with (
        tempfile.TemporaryDirectory() as scratch,
        patch_docutils(confdir),
        docutils_namespace(),
    ):
        app = Sphinx(
            root,
            confdir,
            Path(scratch) / "html",
            Path(scratch) / "doctrees",
            "dummy",
            confoverrides=config | {"nb_execution_mode": "off"},
            status=None,
            warning=None,
        )
        builder = ReferencesBuilder(app, app.env)
        builder.site, builder.pages = Site.read(root), {}
        app.builder = builder
        app.connect("source-read", builder.append_probes)
        builder.build_all()
    return builder.pages

"""The index of the claims: what each says, whether it was tested, and what came out.

The boxes are read from the executed pages, so the index says what this build measured.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from vae_teach.claims import SYMBOLS, entries

NOT_YET = "not yet"
STATUSES = ("measured", "derived", "definition", "reference", NOT_YET)


@dataclass(frozen=True)
class Box:
    """A claim box of an executed page."""

    id: str
    page: str
    verdict: str
    conclusion: str
    measured: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, html: str, page: str) -> "Box":
        """Read the box from its HTML."""
        box = ElementTree.fromstring(html.strip())
        names, values = ([e.text or "" for e in box.iter(t)] for t in ("dt", "dd"))
        conclusion = box.findall("p")[1].findtext("strong") or ""
        measured = tuple(zip(names, values, strict=True))
        return cls(box.attrib["data-claim"], page, box.attrib["data-verdict"],
                   conclusion, measured)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What the index says of a claim: its own box, or those that decide it too."""

    id: str
    entry: Mapping[str, Any]
    status: str
    boxes: tuple[Box, ...]

    @property
    def page(self) -> str | None:
        """The page that treats it."""
        chapter = self.entry.get("chapter")
        return self.boxes[0].page if self.boxes else chapter and f"book/{chapter}"


def rows(claims: Mapping[str, Mapping], boxes: Mapping[str, Box]) -> Iterator[Row]:
    """One row a claim, in the order of ``claims``.

    Without a box of its own a correction was measured with the claims that it corrects,
    and a claim with its corrections.
    """
    for id, entry in claims.items():
        by = [other for other in claims if id in claims[other].get("corrects", ())]
        tested = [id] if id in boxes else entry.get("corrects", by)
        found = tuple(boxes[other] for other in tested if other in boxes)
        status = "measured" if found else entry.get("status", NOT_YET)
        yield Row(id, entry, status, found)


def boxes_of(env: Any) -> dict[str, dict[str, Box]]:
    """The boxes of every page read so far."""
    if not hasattr(env, "claim_boxes"):
        env.claim_boxes = {}
    return env.claim_boxes


class Collect(SphinxTransform):
    """Keep the boxes of a page."""

    default_priority = 410

    def apply(self, **kwargs: Any) -> None:
        """Read each box in the page's HTML outputs."""
        page, found = self.env.docname, {}
        for raw in self.document.findall(nodes.raw):
            if "data-claim=" in raw.astext():
                box = Box.read(raw.astext(), page)
                found[box.id] = box
        boxes_of(self.env)[page] = found


class ClaimsTable(nodes.General, nodes.Element):
    """Stands for the index until all pages have been read."""


class ClaimsTested(SphinxDirective):
    """The index of the claims (C) or of the corrections (E)."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A place to fill once all pages have been executed."""
        return [ClaimsTable(letter=self.arguments[0])]


class FillTable(SphinxPostTransform):
    """Write the index."""

    default_priority = 8

    def run(self, **kwargs: Any) -> None:
        """Replace the place by counts and one entry for each."""
        for place in list(self.document.findall(ClaimsTable)):
            pages = boxes_of(self.env).values()
            known = {id: box for page in pages for id, box in page.items()}
            found = [r for r in rows(entries(), known) if r.id[0] == place["letter"]]
            place.replace_self([counts(found), *map(self.entry, found)])

    def entry(self, row: Row) -> nodes.container:
        """One claim: where it stands, what it says, what came out."""
        lines = row.entry["line"]
        head = nodes.paragraph(classes=["claim-head"])
        word = "line" if lines.isdigit() else "lines"
        head += [nodes.strong(text=row.id), nodes.Text(f", {word} {lines}: ")]
        head += nodes.inline(text=row.status, classes=[row.status.replace(" ", "-")])
        if row.page:
            head += [nodes.Text(" in "), self.link(row)]
        parts = [head, nodes.paragraph(text=row.entry["text"])]
        if "corrects" in row.entry:
            text = f"Corrects {', '.join(row.entry['corrects'])}. "
            parts[-1] += nodes.Text(f" {text}{row.entry['reference']}.")
        parts += [outcome(box, named=box.id != row.id) for box in row.boxes]
        return nodes.container("", *parts, ids=[row.id.lower()], classes=["claim"])

    def link(self, row: Row) -> nodes.Node:
        """A link to the box, or to the page."""
        page = str(row.page)
        anchor = f"#claim-{row.boxes[0].id}" if row.boxes else ""
        builder = self.app.builder
        uri = builder.get_relative_uri(self.env.docname, page) + anchor
        title = self.env.titles[page].astext()
        return nodes.reference("", title, refuri=uri, internal=True)


def outcome(box: Box, named: bool) -> nodes.paragraph:
    """The verdict and what was measured."""
    text = f"{SYMBOLS[box.verdict]} {box.conclusion}"
    line = nodes.paragraph(classes=["claim-outcome"])
    line += nodes.strong(text=f"{box.id} {text}" if named else text)
    measured = "; ".join(f"{name}: {value}" for name, value in box.measured)
    line += nodes.Text(f". {measured}.")
    return line


def counts(found: list[Row]) -> nodes.paragraph:
    """How many of each status, and of each verdict among their own boxes."""
    statuses = Counter(row.status for row in found)
    own = [box for row in found for box in row.boxes if box.id == row.id]
    verdicts = Counter(box.verdict for box in own)
    text = ", ".join(f"{statuses[s]} {s}" for s in STATUSES if statuses[s])
    parts = [f"{SYMBOLS[v]} {v}: {verdicts[v]}" for v in SYMBOLS if verdicts[v]]
    verdict = f" In boxes of their own {', '.join(parts)}." if parts else ""
    return nodes.paragraph(text=f"{len(found)} in all: {text}.{verdict}")


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget a page that is read again."""
    boxes_of(env).pop(docname, None)


def merge(app: Sphinx, env: BuildEnvironment, names: Any, other: Any) -> None:
    """Take over what a parallel reader found."""
    boxes_of(env).update(boxes_of(other))


def renew(app: Sphinx, env: BuildEnvironment, *changed: Any) -> list[str]:
    """The index is written anew whenever any page is."""
    return ["book/claims"] if "book/claims" in env.found_docs else []


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the above."""
    app.add_node(ClaimsTable)
    app.add_directive("claims-tested", ClaimsTested)
    app.add_transform(Collect)
    app.add_post_transform(FillTable)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-get-outdated", renew)
    return {
        "version": "1",
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }

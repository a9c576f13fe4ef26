"""What a chapter needs that Jupyter Book lacks, as one Sphinx extension."""

import os
import platform
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective, SphinxRole

from tools.quiz import VERDICTS, Option, options

GLOSSARY = "book/glossary"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "jupyter-book", "sphinx")
# Where a term is not linked.
BARE = (
    nodes.FixedTextElement,
    nodes.Invisible,
    nodes.caption,
    nodes.literal,
    nodes.math,
    nodes.raw,
    nodes.reference,
    nodes.rubric,
    nodes.title,
    addnodes.desc_signature,
    addnodes.pending_xref,
)


@cache
def glossary(path: Path) -> dict[str, re.Pattern[str]]:
    """The terms of the glossary, longest first, and what finds one in a text."""
    text = path.read_text() if path.exists() else ""
    found = re.search(r"^(`{3,})\{glossary\}\n(.*?)^\1", text, re.M | re.S)
    terms = re.findall(r"^(?![ :])(\S.*)$", found[2] if found else "", re.MULTILINE)
    by_length = sorted(terms, key=len, reverse=True)
    return {
        term: re.compile(rf"(?<![\w-]){re.escape(term)}s?(?![\w-])", re.IGNORECASE)
        for term in by_length
    }


def inside(node: nodes.Node | None, kinds: tuple[type, ...]) -> bool:
    """Whether a node stands in one of some kinds."""
    while node := node.parent if node else None:
        if isinstance(node, kinds):
            return True
    return False


def html(text: str) -> nodes.raw:
    """A piece of HTML."""
    return nodes.raw("", text, format="html")


class Summary(nodes.inline):
    """The text that one presses to open an answer: no place for a link."""


class Quiz(SphinxDirective):
    """A question whose options open to their answers: no script, no network."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The question, and a fold for each option."""
        try:
            found = options("\n".join(self.content))
        except ValueError as error:
            raise self.error(f"{self.arguments[0]}: {error}") from None
        box = nodes.container(classes=["quiz"])
        box += nodes.paragraph("", "", *self.inline(self.arguments[0]))
        for option in found:
            box += self.fold(option)
        return [box]

    def fold(self, option: Option) -> list[nodes.Node]:
        """One option: its answer is in the page, and shown when it is opened."""
        kind = "quiz-right" if option.right else "quiz-wrong"
        answer = nodes.container(classes=["quiz-answer"])
        text = f"**{VERDICTS[option.right]}** {option.answer}"
        self.state.nested_parse(StringList([text]), self.content_offset, answer)
        summary = Summary("", "", *self.inline(option.text))
        start = html(f'<details class="quiz-option {kind}"><summary>')
        return [start, summary, html("</summary>"), answer, html("</details>")]

    def inline(self, text: str) -> list[nodes.Node]:
        """Running text with its maths."""
        found, _ = self.state.inline_text(text, self.lineno)
        return found


class RunTime(nodes.inline):
    """Stands for the seconds that its page took to execute."""


class RunTimeRole(SphinxRole):
    """``{runtime}`The chapter ran in``` ends with the time that this build measured."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """A place to fill once the page has been executed."""
        return [RunTime(self.rawtext, self.text)], []


class FillRunTime(SphinxPostTransform):
    """Say how long the page took."""

    default_priority = 8

    def run(self, **kwargs: Any) -> None:
        """Replace each place; a page that was not executed says nothing."""
        env: Any = self.env
        data = NbMetadataCollector.get_exec_data(env, env.docname)
        for place in list(self.document.findall(RunTime)):
            seconds = data and data["runtime"]
            text = f"{place.astext()} {seconds:.0f} seconds." if seconds else ""
            place.replace_self(nodes.Text(text))


class Versions(SphinxDirective):
    """What this build was made with."""

    def run(self) -> list[nodes.Node]:
        """A list of names and versions."""
        fields = nodes.field_list()
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        about = {"machine": machine, "Python": platform.python_version()}
        for name, value in (about | {p: version(p) for p in PACKAGES}).items():
            body = nodes.field_body("", nodes.paragraph(text=value))
            fields += nodes.field("", nodes.field_name(text=name), body)
        return [fields]


class FirstUses(SphinxTransform):
    """Link a glossary term where a page first uses it."""

    default_priority = 880

    def apply(self, **kwargs: Any) -> None:
        """Turn the first match of each term in running text into a reference."""
        if self.env.docname == GLOSSARY:
            return
        path = Path(self.env.doc2path(GLOSSARY))
        self.env.note_dependency(str(path))
        for term, pattern in glossary(path).items():
            self.link(term, pattern)

    def link(self, term: str, pattern: Any) -> None:
        """Link one term, once."""
        for text in self.document.findall(nodes.Text):
            match = pattern.search(text)
            if match is None or inside(text, (*BARE, Summary)):
                continue
            used = nodes.inline("", match[0], classes=["first-use"])
            where = {"refdomain": "std", "reftype": "term", "reftarget": term}
            link = addnodes.pending_xref("", used, **where, refexplicit=True)
            link["refdoc"] = self.env.docname
            around = text[: match.start()], text[match.end() :]
            parts = [nodes.Text(around[0]), link, nodes.Text(around[1])]
            text.parent.replace(text, [part for part in parts if part.astext()])
            return


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the above."""
    app.add_directive("quiz", Quiz)
    app.add_directive("versions", Versions)
    app.add_role("runtime", RunTimeRole())
    app.add_post_transform(FillRunTime)
    app.add_transform(FirstUses)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

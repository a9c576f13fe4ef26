"""MyST to the Markdown that Colab and JupyterLab show: no directive, role or label."""

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_blocks import myst_block_plugin

from tools.quiz import VERDICTS, Option, options
from tools.references import LINK, ROLE, Page

PARSER = (
    MarkdownIt("commonmark")
    .use(colon_fence_plugin)
    .use(dollarmath_plugin, double_inline=True)
    .use(myst_block_plugin)
)
IMAGE = re.compile(r"!\[([^\]]*)\]\((?!\w+:)([^()\s]+)\)")
NOTES = ("caution", "danger", "hint", "important", "note", "seealso", "tip", "warning")
RUN_TIME = "A CPU is enough: about a minute with two cores."
PLAIN = ("container", "div", "tab-set", "grid")


@dataclass
class Directive:
    """One directive, its body still in MyST."""

    name: str
    argument: str
    options: dict[str, str]
    body: str

    @classmethod
    def parse(cls, info: str, content: str) -> "Directive":
        """Split ``{name} argument``, the ``:key: value`` lines and the body."""
        name, argument = info.strip().removeprefix("{").split("}", 1)
        lines = content.splitlines()
        count = 0
        while count < len(lines) and re.match(r":[\w-]+:", lines[count]):
            count += 1
        pairs = (line[1:].split(":", 1) for line in lines[:count])
        options = {key: value.strip() for key, value in pairs}
        return cls(name, argument.strip(), options, "\n".join(lines[count:]).strip())


def quote(title: str, body: str) -> str:
    """A block quote under a bold title."""
    text = f"**{title}**\n\n{body}" if title else body
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def fold(title: str, body: str) -> str:
    """A closed fold; the blank lines let Markdown work inside."""
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def linked(text: str, address: str) -> str:
    """A link, whatever brackets its text has."""
    text = text.replace("[", r"\[").replace("]", r"\]")
    return f"[{text}]({address})"


@dataclass
class Plain:
    """Turns the text of one page into plain Markdown."""

    page: Page
    address: str

    def __call__(self, text: str) -> str:
        """Convert a whole cell or the body of a directive."""
        lines, at, parts = text.split("\n"), 0, []
        for token in PARSER.parse(text):
            if token.map is None or (block := self.block(token)) is None:
                continue
            start, end = token.map
            if at < start:
                parts.append(self.inline("\n".join(lines[at:start])))
            if block:
                parts.append(indented(block, lines[start]))
            at = end
        return "\n".join([*parts, self.inline("\n".join(lines[at:]))]).strip()

    def block(self, token) -> str | None:
        """What stands for a block; None where its lines are ordinary Markdown."""
        if token.type in ("myst_target", "myst_line_comment"):
            return ""
        if token.type == "math_block_label":
            return self.equation(token.content, token.info)
        if token.type not in ("fence", "colon_fence"):
            return None
        if not token.info.startswith("{"):
            return f"{token.markup}{token.info}\n{token.content}{token.markup}"
        return self.directive(Directive.parse(token.info, token.content))

    def inline(self, text: str) -> str:
        """Resolve roles, links and images in running text."""
        text = IMAGE.sub(lambda m: self.image(m[1], m[2]), text)
        text = ROLE.sub(self.role, text)
        return LINK.sub(lambda m: linked(*self.page[m[0]]), text)

    def role(self, match: re.Match) -> str:
        """Maths stays; everything else is a link to the book."""
        if match[1] == "math":
            return f"${match[3]}$"
        if match[1] == "runtime":
            return RUN_TIME
        return linked(*self.page[match[0]])

    def number(self, label: str, role: str = "numref") -> str:
        """What the book calls a numbered thing, such as ``Exercise 3``."""
        return self.page[f"{{{role}}}`{label}`"][0]

    def equation(self, content: str, label: str | None) -> str:
        """Display maths with the number that it has in the book."""
        body = content.strip()
        if r"\\" in body and r"\begin" not in body:
            body = f"\\begin{{split}}\n{body}\n\\end{{split}}"
        tag = f"\n\\tag{{{self.number(label, 'eq').strip('()')}}}" if label else ""
        return f"$$\n{body}{tag}\n$$"

    def image(self, alt: str, path: str) -> str:
        """An image of the book, by its public address."""
        return f"![{alt}]({self.page.image(path)})"

    def directive(self, it: Directive) -> str:
        """One directive in plain Markdown."""
        title = self.inline(it.argument)
        match it.name:
            case "math":
                return self.equation(it.body, it.options.get("label"))
            case "code-block" | "code":
                return f"```{it.argument}\n{it.body}\n```"
            case "image":
                return self.image(it.options.get("alt", ""), it.argument)
            case "figure":
                image = self.image(it.options.get("alt", ""), it.argument)
                return f"{image}\n\n{self.caption(it.options.get('name'), it.body)}"
            case "quiz":
                return "\n\n".join(
                    [f"**{title}**", *map(self.option, options(it.body))]
                )
            case "bibliography":
                return f"The references are in [the book]({self.address})."
            case "exercise-end" | "solution-end":
                return ""
            case "solution" | "solution-start":
                title = f"Solution to {self.number(it.argument)}"
                body = self(it.body)
                if it.name == "solution":
                    return fold(title, body)
                return f"**{title}**\n\n{body}".strip()
        body = self(it.body)
        match it.name:
            case "exercise" | "exercise-start":
                name = self.number(it.options["label"])
                return f"**{name}{f' ({title})' if title else ''}**\n\n{body}".strip()
            case "prf:proof":
                return quote("", f"*Proof.* {body}")
            case name if name.startswith("prf:"):
                name = self.number(it.options["label"], "prf:ref")
                return quote(f"{name} ({title})" if title else name, body)
            case name if name in NOTES:
                title, body = name.capitalize(), f"{title}\n{body}".strip()
            case "tab-item":
                return f"**{title}**\n\n{body}"
            case name if name in PLAIN:
                return body
            case "admonition" | "dropdown" | "margin" | "sidebar":
                pass
            case name:
                raise SystemExit(
                    f"{self.page.name}.md: tools/plain_markdown.py does not know "
                    f"the directive {{{name}}}; use one that it knows or teach it"
                )
        folded = it.name == "dropdown" or "dropdown" in it.options.get("class", "")
        return fold(title, body) if folded else quote(title, body)

    def option(self, option: Option) -> str:
        """One option of a quiz, folded over its answer."""
        answer = f"{VERDICTS[option.right]} {option.answer}"
        return fold(self.inline(option.text), self(answer))

    def caption(self, label: str | None, text: str) -> str:
        """The line under a figure."""
        name = f"**{self.number(label)}** " if label else ""
        return f"{name}{self(text)}"


def indented(block: str, line: str) -> str:
    """The block under the list marker or quote sign that its first line had."""
    prefix = re.sub(r"^([\s>]*(?:[-*+] +|\d+[.)] +)?).*", r"\1", line)
    rest = re.sub(r"[^\s>]", " ", prefix)
    return prefix + block.replace("\n", f"\n{rest}")

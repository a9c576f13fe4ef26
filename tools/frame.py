"""The frame that every chapter keeps: what it must have, checked in its source.

The front page is no chapter: it teaches nothing that one could exercise.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nbformat import NotebookNode

from tools.plain_markdown import PARSER, Directive
from tools.quiz import options

ENDING = [
    "What could go wrong",
    "Exercises",
    "Check yourself",
    "Summary",
    "References",
]
GRADES = {"★", "★★", "★★★"}
MOST_CLAIMS = 8
PAYOFF = re.compile(r"\w+Explorer\(")
SELF_CHECK = re.compile(r"\bassert\b|np\.testing\.|\bclaim\(")


@dataclass(frozen=True)
class Part:
    """A heading, a directive, a cell or a block of text, in the order of the page."""

    kind: str
    name: str
    text: str
    options: dict[str, str]


def parts(chapter: NotebookNode) -> Iterator[Part]:
    """What a chapter consists of; directives are not opened."""
    for cell in chapter.cells:
        if cell.cell_type == "code":
            tags = dict.fromkeys(cell.metadata.get("tags", []), "")
            kind = "figure" if "mystnb" in cell.metadata else "code"
            yield Part(kind, "", cell.source, tags)
        else:
            yield from blocks(cell.source)


def blocks(text: str) -> Iterator[Part]:
    """The blocks of Markdown."""
    lines, tokens = text.split("\n"), PARSER.parse(text)
    for i, token in enumerate(tokens):
        if token.level or token.map is None:
            continue
        source = "\n".join(lines[slice(*token.map)])
        if token.type == "heading_open":
            yield Part(token.tag, tokens[i + 1].content, source, {})
        elif token.type in ("fence", "colon_fence") and token.info.startswith("{"):
            it = Directive.parse(token.info, token.content)
            name = f"{it.name} {it.argument}".strip()
            yield Part(it.name, name, it.body, it.options)
        else:
            yield Part("text", "", source, {})


def section(found: list[Part], title: str) -> list[Part]:
    """The parts under a heading of the second level."""
    heads = [i for i, part in enumerate(found) if part.kind == "h2"]
    for i, end in zip(heads, [*heads[1:], len(found)], strict=True):
        if found[i].name == title:
            return found[i + 1 : end]
    return []


def text_of(found: list[Part]) -> str:
    """All that is written in some parts."""
    return "\n".join(part.text for part in found)


def bullets(text: str) -> int:
    """How many items its lists have."""
    return len(re.findall(r"^\s*[-*] ", text, re.MULTILINE))


def faults(chapter: NotebookNode) -> list[str]:
    """What a chapter lacks, one line each."""
    found = list(parts(chapter))
    checks = (opening, prompts, ending, exercises, quiz, closing, claims)
    return [fault for check in checks for fault in check(found)]


def opening(found: list[Part]) -> Iterator[str]:
    """The payoff comes first, then the box."""
    first = next((i for i, part in enumerate(found) if part.kind == "h2"), len(found))
    top = found[:first]
    is_box = [part.name == "admonition In this chapter" for part in top]
    if not any(is_box):
        yield "no {admonition} In this chapter before the first section"
        return
    box, before = top[is_box.index(True)].text, top[: is_box.index(True)]
    if not any(p.kind == "figure" or PAYOFF.search(p.text) for p in before):
        yield "no figure or explorer before the box"
    if sum(len(part.text) for part in before if part.kind == "text") > 1600:
        yield "more than 1600 characters of text before the box"
    if "You will be able to" not in box or bullets(box) < 3:
        yield "fewer than three objectives after 'You will be able to'"
    needs = box.partition("You need")[2]
    if not re.search(r"\{(doc|ref)\}`|\]\(", needs):
        yield "no link to a prerequisite after 'You need'"
    if "{runtime}`" not in box:
        yield "no {runtime} in the box"


def prompts(found: list[Part]) -> Iterator[str]:
    """Predict, then reveal: a cell follows each prompt in its section."""
    answered = 0
    for i, part in enumerate(found):
        if part.kind == "dropdown" and part.name.startswith("dropdown Predict"):
            rest = found[i + 1 :]
            stop = next((p for p in rest if p.kind in ("code", "figure", "h2")), None)
            answered += stop is not None and stop.kind != "h2"
            if stop is None or stop.kind == "h2":
                yield f"no cell reveals {part.name!r}"
    if answered < 2:
        yield f"{answered} prompts to predict, not two or more"


def ending(found: list[Part]) -> Iterator[str]:
    """The last sections are the same everywhere."""
    heads = [part.name for part in found if part.kind == "h2"]
    if heads[-len(ENDING) :] != ENDING:
        yield f"the last sections are not {', '.join(ENDING)}"


def exercises(found: list[Part]) -> Iterator[str]:
    """Four or more in three grades, each with a hint and a solution that checks."""
    tasks = gated(found, "exercise")
    solutions = {name: body for name, _, body in gated(found, "solution")}
    if len(tasks) < 4:
        yield f"{len(tasks)} exercises, not four or more"
    if GRADES - {title.split()[0] for title, _, _ in tasks}:
        yield "exercises do not have all three grades ★, ★★ and ★★★"
    for title, label, body in tasks:
        if not any(part.name == "dropdown Hint" for part in body):
            yield f"no hint in {title!r}"
        if label not in solutions:
            yield f"no solution to {title!r}"
            continue
        code = [part.text for part in solutions[label] if part.kind == "code"]
        if not any(map(SELF_CHECK.search, code)):
            yield f"no self-check in the solution to {title!r}"
        if "common wrong" not in text_of(solutions[label]):
            yield f"no common wrong answer to {title!r}"


def gated(found: list[Part], kind: str) -> list[tuple[str, str, list[Part]]]:
    """Argument, label and body of each directive of a kind that has a start and an end.

    A solution counts only where the page folds it.
    """
    result: list[tuple[str, str, list[Part]]] = []
    inside = False
    for part in found:
        if part.kind == f"{kind}-start":
            inside = kind != "solution" or part.options.get("class") == "dropdown"
            argument = part.name.removeprefix(part.kind).strip()
            if inside:
                result.append((argument, part.options.get("label", ""), []))
        elif part.kind == f"{kind}-end":
            inside = False
        elif inside:
            result[-1][2].append(part)
    return result


def quiz(found: list[Part]) -> Iterator[str]:
    """Three to five questions with an answer to each option."""
    asked = [part for part in section(found, "Check yourself") if part.kind == "quiz"]
    if not 3 <= len(asked) <= 5:
        yield f"{len(asked)} questions under 'Check yourself', not three to five"
    for part in asked:
        try:
            options(part.text)
        except ValueError as error:
            yield f"{part.name}: {error}"


def closing(found: list[Part]) -> Iterator[str]:
    """Symptoms, a summary, references."""
    table = text_of(section(found, "What could go wrong"))
    if not re.match(r"\|\s*symptom", table) or table.count("\n|") < 4:
        yield "no table of three symptoms or more under 'What could go wrong'"
    if not 3 <= bullets(text_of(section(found, "Summary"))) <= 6:
        yield "the summary is not a list of three to six points"
    if "{cite:" not in text_of(section(found, "References")):
        yield "no citation under 'References'"


def claims(found: list[Part]) -> Iterator[str]:
    """A reader can keep in mind only so many."""
    boxes = sum(len(re.findall(r"^claim\(", p.text, re.MULTILINE)) for p in found)
    if boxes > MOST_CLAIMS:
        yield f"{boxes} claim boxes, more than {MOST_CLAIMS}"

"""The quiz questions of a chapter: options, and an answer to each."""

import re
from dataclasses import dataclass

OPTION = re.compile(r"- \[([ x])\] (.+)")
VERDICTS = {True: "Right.", False: "Not so."}


@dataclass
class Option:
    """One option, its text and the answer to it in MyST."""

    right: bool
    text: str
    answer: str


def options(body: str) -> list[Option]:
    """Read ``- [x] option``, each followed by its indented answer.

    Raises:
        ValueError: for a line that is neither, or when not exactly one of at least two
            options is right, or when one has no answer.

    """
    found: list[Option] = []
    for line in filter(str.strip, body.splitlines()):
        if match := OPTION.fullmatch(line.rstrip()):
            found.append(Option(match[1] == "x", match[2], ""))
        elif found and line.startswith("  "):
            found[-1].answer = f"{found[-1].answer} {line.strip()}".strip()
        else:
            raise ValueError(f"Expected '- [ ] option' or its answer, got {line!r}.")
    right = sum(option.right for option in found)
    if len(found) < 2 or right != 1:
        raise ValueError(
            f"Expected two options or more, one of them right, got {len(found)} with "
            f"{right} right."
        )
    for option in found:
        if not option.answer:
            raise ValueError(f"Expected an answer to the option {option.text!r}.")
    return found

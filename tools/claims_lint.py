"""Refuse claim boxes whose verdict does not depend on anything measured."""

import ast
import sys
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager

from tools.book import chapters, code_cells


def unmeasured(source: str) -> Iterator[int]:
    """The lines of ``claim(..., holds=...)`` whose ``holds`` names no variable."""
    tree = ast.parse(TransformerManager().transform_cell(source))
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or "claim" not in ast.unparse(call.func):
            continue
        for keyword in call.keywords:
            used = {n.id for n in ast.walk(keyword.value) if isinstance(n, ast.Name)}
            if keyword.arg == "holds" and not used - {"bool", "all", "any", "not"}:
                yield call.lineno


def main() -> None:
    """Check every chapter."""
    wrong = [
        f"{name}.md, cell {number}, line {line}: holds must be computed from `measured`"
        for name, chapter in chapters().items()
        for number, cell in enumerate(code_cells(chapter))
        for line in unmeasured(cell.source)
    ]
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()

"""The reference of the package: docstrings are plain text with formulas, not markup."""

import re
from typing import Any

from sphinx.application import Sphinx

LITERAL = re.compile(r"(``.+?``)")
MARKUP = re.compile(r"[*|]|_(?!\w)")


def escape(line: str) -> str:
    """The line with what would be markup outside of its literals made plain."""
    parts = LITERAL.split(line)
    parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)


def plain(
    app: Sphinx, what: str, name: str, it: Any, options: Any, lines: list
) -> None:
    """Escape a docstring before napoleon reads its sections."""
    lines[:] = map(escape, lines)


def short(
    app: Sphinx,
    what: str,
    name: str,
    it: Any,
    options: Any,
    signature: Any,
    result: Any,
) -> tuple[Any, Any]:
    """Types as the code writes them."""
    parts = (signature, result)
    return tuple(p and p.replace("jaxlib._jax.Array", "Array") for p in parts)  # type: ignore[return-value]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the above, before napoleon."""
    app.connect("autodoc-process-docstring", plain, priority=100)
    app.connect("autodoc-process-signature", short)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

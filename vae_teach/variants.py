"""The table of variants: what a swapped piece costs, and what it gives.

``benchmarks.variants`` makes the numbers; a chapter shows its rows of them, in one
call::

    variants_table("VAE", "CVAE, concatenation", "CVAE, FiLM")
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np

COLUMNS = (
    "variant",
    "what was swapped",
    "lines",
    "parameters",
    "log p(x)",
    "rate",
    "active units or codes",
    "seconds",
)


@dataclass(frozen=True)
class Table:
    """A table in a notebook, plain text elsewhere: a header, its rows, and a note.

    The first two columns are words, the others numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str

    def __repr__(self) -> str:
        """Columns in line, words to the left and numbers to the right."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [str.ljust] * 2 + [str.rjust] * (len(widths) - 2)
        text = [
            "  ".join(map(lambda f, c, w: f(c, w), aligned, line, widths))
            for line in lines
        ]
        return "\n".join([*text, self.note])

    def _repr_html_(self) -> str:
        head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in self.header)
        body = "".join(f"<tr>{_html(*row)}</tr>" for row in self.rows)
        table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        return (
            "<div style='overflow-x:auto;font-size:.8em' tabindex='0'>"
            f"<table style='text-align:right'>{table}</table></div>"
            f"<p style='font-size:.8em'>{escape(self.note)}</p>"
        )


def _html(name, swapped, *numbers):
    left = "style='text-align:left;min-width:9em'"
    cells = [f"<th scope='row' {left}>{escape(name)}</th>"]
    cells.append(f"<td {left}>{escape(swapped)}</td>")
    # A number and its spread stay on one line; what is left may wrap.
    for cell in numbers:
        text = escape(cell).replace(" ± ", "&nbsp;±&nbsp;").replace("≥ ", "≥&nbsp;")
        cells.append(f"<td>{text}</td>")
    return "".join(cells)


def variants(*, full: bool = False) -> dict:
    """The stored result: settings, and ``rows``, a dict of each row by its name.

    ``full`` is that of full MNIST on a GPU, otherwise of the embedded digits on a CPU.

    Raises:
        FileNotFoundError: where nobody has stored it.

    """
    name = "variants_full.json" if full else "variants.json"
    stored = json.loads(files("vae_teach").joinpath("datasets", name).read_text())
    return stored | {"rows": {row["name"]: row for row in stored["rows"]}}


def variants_table(*names: str, full: bool = False) -> Table:
    """These rows of the table, all where none is named: mean ± sd over the seeds.

    ``lines``: of the row's builder + of the package, statements, beyond the row that it
    changes. ``log p(x)`` and ``rate`` are in nats an image; ≥ marks a bound. The rate
    of a conditional VAE is that given the class. ``seconds``: of training one model.

    Raises:
        KeyError: for a name that is no row.

    """
    stored = variants(full=full)
    rows = stored["rows"]
    if unknown := [name for name in names if name not in rows]:
        raise KeyError(f"Expected rows among {list(rows)}, got {unknown}.")
    chosen = [rows[name] for name in names or rows]
    seconds = "cpu_seconds" if stored["provenance"]["platform"] == "cpu" else "seconds"
    cells = [
        (
            row["name"],
            f"in {row['of']}: {row['swapped']}" if row["of"] else "",
            f"{row['lines_here']} + {row['lines_package']}",
            f"{row['parameters']:,}",
            "≥ " * row["kind"].startswith("bound") + _spread(row["log_px"]),
            _spread(row["rate"]),
            _units(row),
            f"{row[seconds]:.0f}",
        )
        for row in chosen
    ]
    device = stored["provenance"]["device"]
    note = (
        f"{stored['data']['train']:,} digits, binarized once, {stored['epochs']} "
        f"epochs, {stored['seeds']} seeds: mean ± standard deviation, in nats a digit. "
        f"log p(x) by importance sampling, {stored['samples']} draws, of "
        f"{stored['judged']} test digits; ≥ marks a bound. Lines: of the builder + of "
        f"the package, beyond the row changed. Seconds: to train one model, on a "
        f"{'processor' if device == 'cpu' else device}."
    )
    return Table(COLUMNS, cells, note)


def _units(row):
    """Active units, or of each level of codes their share and perplexity."""
    if "active" in row:
        return f"{np.mean(row['active']):.0f} active"
    return "; ".join(
        f"{'' if level == 'codes' else level + ' '}{np.mean(shares):.0%} used, "
        f"perplexity {np.mean(row['perplexity'][level]):.0f}"
        for level, shares in row["used"].items()
    )


def _spread(values):
    text = f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    return text.replace("-", "−")

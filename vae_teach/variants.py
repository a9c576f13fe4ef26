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
    "active; used",
    "perplexity",
    "seconds",
)


@dataclass(frozen=True)
class Table:
    """A table in a notebook, plain text elsewhere: a header, its rows, and a note.

    The first two columns are words, which share a column in HTML; the others numbers.
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
        name, swapped, *numbers = map(escape, self.header)
        head = _left(f"{name}, {swapped}") + "".join(map(_right, numbers))
        body = "".join(f"<tr>{_html(*map(escape, row))}</tr>" for row in self.rows)
        table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        return (
            "<div style='overflow-x:auto;font-size:.75em' tabindex='0'>"
            f"<table style='border-collapse:collapse'>{table}</table></div>"
            f"<p style='font-size:.75em'>{escape(self.note)}</p>"
        )


_CELL = "padding:.3em .4em;border-top:1px solid #8886;vertical-align:top"


def _left(text):
    return (
        f"<th style='{_CELL};text-align:left;min-width:13em;font-weight:normal'>"
        f"{text}</th>"
    )


def _right(text):
    text = text.replace("; ", "<br>")
    return f"<td style='{_CELL};text-align:right;white-space:nowrap'>{text}</td>"


def _html(name, swapped, *numbers):
    return _left(f"<b>{name}</b><br>{swapped}".removesuffix("<br>")) + "".join(
        map(_right, numbers)
    )


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
    changes. ``log p(x)`` and ``rate`` are in nats an image; ≥ marks a bound. For a
    conditional VAE p(x) is the sum over classes y of p(y) p(x|y), x|y stands before
    log p(x|y) of the true class, and the rate is given this class, too. ``seconds``: of
    training one model.

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
            f"{row['lines_here']}+{row['lines_package']}",
            f"{row['parameters']:,}",
            _log_px(row),
            _spread(row["rate"]),
            *_units(row),
            f"{row[seconds]:.2g}" if row[seconds] < 10 else f"{row[seconds]:.0f}",
        )
        for row in chosen
    ]
    device = stored["provenance"]["device"]
    note = (
        f"{stored['data']['train']:,} digits, binarized once, {stored['epochs']} "
        f"epochs, {stored['seeds']} seeds: mean ± standard deviation, in nats a digit. "
        f"log p(x) by importance sampling, {stored['samples']} draws, of "
        f"{stored['judged']} test digits; ≥ marks a bound, x|y is given the class. "
        "Lines: of the builder + of the package, beyond the row changed. Units active, "
        f"or codes used. Seconds: to train one model; device: {device}."
    )
    return Table(COLUMNS, cells, note)


def _log_px(row):
    text = "≥ " * row["kind"].startswith("bound") + _spread(row["log_px"])
    if "log_px_given_y" not in row:
        return text
    return f"{text}; x|y {_spread(row['log_px_given_y'])}"


def _units(row):
    """Active units; or of codes the share used and the perplexity, level by level."""
    if "active" in row:
        return f"{np.mean(row['active']):.0f} units", ""
    used, perplexity = (
        {level: np.mean(values) for level, values in row[measure].items()}
        for measure in ("used", "perplexity")
    )
    names = {level: "" if level == "codes" else f"{level} " for level in used}
    return (
        "; ".join(f"{names[level]}{share:.0%}" for level, share in used.items()),
        "; ".join(f"{value:.0f}" for value in perplexity.values()),
    )


def _spread(values):
    if np.ptp(values) == 0:  # exact, such as the rate of uniform codes
        return f"{values[0]:.1f}"
    text = f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    return text.replace("-", "−")

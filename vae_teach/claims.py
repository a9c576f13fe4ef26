"""Claim boxes: what is said about VAEs, next to what was measured.

``claim`` looks the statement up in ``claims.toml``, shows it with its measurement and
verdict, and fails where the verdict is not the one that the text around it explains.
"""

import functools
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np
from jax.typing import ArrayLike

from .typing import Scalar

SYMBOLS = {"holds": "✓", "holds if": "◐", "does not hold": "✗", "undecided": "?"}


@dataclass(frozen=True)
class Claim:
    """A tested claim: a box in a notebook, plain text elsewhere."""

    id: str
    measured: dict[str, str]
    verdict: str
    conclusion: str

    def __repr__(self) -> str:
        """The box as plain text."""
        head = f"Claim {self.id}. {entries()[self.id]['text']}"
        rows = [f"  {name}: {value}" for name, value in self.measured.items()]
        verdict = f"{SYMBOLS[self.verdict]} {self.conclusion}"
        return "\n".join([head, *rows, verdict, self.where])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<dt>{escape(name)}</dt><dd style='margin:0'>{escape(value)}</dd>"
            for name, value in self.measured.items()
        )
        return _HTML.format(
            id=self.id,
            verdict=self.verdict,
            text=escape(entries()[self.id]["text"]),
            rows=rows,
            symbol=SYMBOLS[self.verdict],
            conclusion=escape(self.conclusion),
            where=escape(self.where),
        )

    @property
    def where(self) -> str:
        """Where the claim is from, and what corrects it."""
        entry = entries()[self.id]
        lines = "line" if entry["line"].isdigit() else "lines"
        parts = [f"Source page, {lines} {entry['line']}"]
        if "corrects" in entry:
            parts.append(f"corrects {', '.join(entry['corrects'])}")
        if "reference" in entry:
            parts.append(entry["reference"])
        for id, other in entries().items():
            if self.id in other.get("corrects", ()):
                parts.append(f"corrected by {id} ({other['reference']})")
        return "; ".join(parts) + "."


# Translucent grey and the page's own text colour are legible on any page.
_HTML = """<div id='claim-{id}' data-claim='{id}' data-verdict='{verdict}' \
role='note' aria-label='Claim {id}' style='color:inherit;\
background:rgba(128,128,128,.1);border-left:.25rem solid rgba(128,128,128,.7);\
line-height:1.5;margin:1rem 0;padding:.6rem 1rem;text-align:left'>
<p style='margin:0'><strong>Claim {id}.</strong> {text}</p>
<dl style='display:grid;grid-template-columns:fit-content(60%) 1fr;gap:0 1.2rem;\
margin:.4rem 0'>{rows}</dl>
<p style='margin:0'><span aria-hidden='true'>{symbol}</span> \
<strong>{conclusion}</strong></p>
<p style='font-size:.85em;margin:.3rem 0 0'>{where}</p>
</div>"""


def claim(
    id: str,
    *,
    measured: Mapping[str, object],
    holds: object,
    expect: str,
    only_if: str | None = None,
) -> Claim:
    """Make a claim box: put it last in its cell.

    Args:
        id: as in ``claims.toml``: a claim such as C036, or a correction such as E19.
        measured: what was measured, by a name that says the unit: a number, a text, or
            an array with one value a seed, shown as mean ± sd (n seeds).
        holds: an expression of what was measured: true, false, or None for undecided,
            as in ``exceeds(rates, 5) and exceeds(-rates, -20)``.
        expect: the verdict: "holds", "holds if", "does not hold" or "undecided".
        only_if: the condition that the claim needs: with it, what holds "holds if".

    Raises:
        AssertionError: when the verdict is not the expected one.
        ValueError: for an unknown id, or an ``expect`` that is no verdict.
        TypeError: for a ``holds`` that is a number: compare it with something.

    """
    if id not in entries():
        raise ValueError(
            "Expected the id of a claim like C036 or of a correction like E19, among "
            f"{', '.join(entries())}; got {id!r}: add it to claims.toml."
        )
    if expect not in SYMBOLS:
        raise ValueError(f"Expected a verdict among {[*SYMBOLS]}, got {expect!r}.")
    verdict = _verdict(holds, only_if)
    shown = {name: _shown(name, value) for name, value in measured.items()}
    if verdict != expect:
        raise AssertionError(
            f"Claim {id}: expected {expect!r}, found {verdict!r} with {shown}."
        )
    conclusion = f"{verdict} {only_if}" if verdict == "holds if" else verdict
    return Claim(id, shown, verdict, conclusion)


def exceeds(
    values: ArrayLike | Sequence[float],
    limit: float | Scalar,
    standard_error: float | Scalar | None = None,
) -> bool | None:
    """Whether ``values`` lie above ``limit``; None within 3 standard errors of it.

    ``values`` are one number, exact unless it comes with its standard error, or an
    array with one number a seed: their mean, of standard error sd/√n. To compare two
    measurements give their difference, and 0. For "below" turn both signs,
    ``exceeds(-values, -limit)``, because ``not None`` is True; join answers by ``and``.

    Raises:
        ValueError: for values that are not finite, or an array of one value, of several
            axes, or with a standard error besides its own.

    """
    x = np.asarray(values, np.float64)
    seeds = x.ndim == 1 and x.size > 1 and standard_error is None
    if not (seeds or x.ndim == 0) or not np.isfinite(x).all():
        raise ValueError(
            "Expected one finite number, with or without its standard error, or an "
            f"array with one for each of two seeds or more, got {values}."
        )
    if seeds:
        standard_error = x.std(ddof=1) / math.sqrt(len(x))
    difference, margin = x.mean() - float(limit), 3 * float(standard_error or 0)
    if abs(difference) > margin or margin == 0:
        return bool(difference > 0)
    return None


@functools.cache
def entries() -> dict[str, dict]:
    """Every claim in ``claims.toml`` by its id: text, line, and reference."""
    return tomllib.loads(files("vae_teach").joinpath("claims.toml").read_text("utf-8"))


def _verdict(holds, only_if):
    if holds is None:
        return "undecided"
    if np.shape(holds) or np.asarray(holds).dtype != bool:
        raise TypeError(
            f"Expected holds to be true, false or None, got {holds!r}: compare what "
            "was measured with something."
        )
    return ("holds if" if only_if else "holds") if holds else "does not hold"


def _shown(name, value):
    """A measurement in words."""
    if isinstance(value, str):
        return value
    values = np.asarray(value)
    if values.ndim > 1 or values.dtype.kind not in "biuf" or not values.size:
        raise TypeError(
            f"Expected {name!r} to be a number, a text, or an array with one number a "
            f"seed, got {value!r}."
        )
    if not values.ndim:
        return _number(values.item())
    if len(values) == 1:
        return f"{_number(values[0].item())} (1 seed)"
    mean, sd = values.mean(), values.astype(np.float64).std(ddof=1)
    if not 1e-9 < sd < math.inf:
        return f"{_number(mean)} ± {sd:.2g} ({len(values)} seeds)"
    digits = max(0, 1 - math.floor(math.log10(sd)))
    return f"{mean:,.{digits}f} ± {sd:,.{digits}f} ({len(values)} seeds)"


def _number(x):
    if isinstance(x, bool):
        return "yes" if x else "no"
    if isinstance(x, int) or 1e4 <= abs(x) < 1e9:
        return f"{x:,.0f}"
    return f"{x:.4g}"

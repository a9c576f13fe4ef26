"""The collapse explorer: count the latents that survive before anything is trained."""

import json
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

import numpy as np

from .explorer import HERE, Explorer

FAMILIES = ("linear", "deep")
LATENTS = 20


@cache
def measured() -> list[dict[str, Any]]:
    """The deep VAEs of ``benchmarks.collapse``: counts and nats of every seed.

    Of each latent the mean, least and most nats; where a β was trained for longer too,
    the counts and nats of that.
    """
    file = files("vae_teach").joinpath("datasets/collapse.json")
    result, tables = json.loads(file.read_text()), {"deep": {}, "longer": {}}
    for row in result["rows"]:
        if row["table"] in tables:
            tables[row["table"]][row["beta"]] = row
    rows = []
    for beta, row in tables["deep"].items():
        rates, kept = np.array(row["rates"]), ("level", "active", "rate")
        spread = {"mean": rates.mean(0), "least": rates.min(0), "most": rates.max(0)}
        spread = {name: np.round(v, 3).tolist() for name, v in spread.items()}
        rows.append({name: row[name] for name in kept} | spread)
        if beta in tables["longer"]:
            longer = {name: tables["longer"][beta][name] for name in kept}
            rows[-1]["longer"] = longer | {"epochs": result["long_epochs"]}
    return rows


class CollapseExplorer(Explorer):
    """Predict how many of 20 latents survive, then see what trained networks kept.

    Two families of really trained VAEs: linear ones, whose encoder and decoder the page
    runs, and ones with a hidden layer, whose reconstructions it carries. For both it
    has the linear law: latent i is used where the eigenvalue λ_i of the digits' own
    covariance is above β σ², at ½ log(λ_i/βσ²) nats.
    State: ``family``, "linear" or "deep"; ``beta`` and ``variance``, σ², of which only
    the product counts; ``guess``, the reader's count; ``shown``, whether what training
    did is uncovered.

    Raises:
        ValueError: for another family, a beta or variance that is not positive, or a
            guess that is not a whole number from 0 to 20.

    """

    name = "collapse"
    title = "Predict the collapse"
    notice = (
        "Count the eigenvalues above the line βσ²: a linear VAE keeps as many latents. "
        "One step past the largest, every digit becomes the average digit, though the "
        "KL came down to 0 without a jump."
    )
    modules = ("shared", "digits")
    state: ClassVar[dict[str, Any]] = {
        "family": "linear",
        "beta": 1.9564,  # on one of the lines that were trained
        "variance": 0.5,
        "guess": 5,
        "shown": False,
    }

    def __init__(self, **state: Any):
        super().__init__(**state)
        start: dict[str, Any] = self.start
        if start["family"] not in FAMILIES:
            raise ValueError(
                f"Expected a family among {FAMILIES}, got {start['family']!r}."
            )
        for name in ("beta", "variance"):
            if not start[name] > 0:
                raise ValueError(f"Expected a positive {name}, got {start[name]}.")
        if start["guess"] not in range(LATENTS + 1):
            raise ValueError(
                f"Expected a guess from 0 to {LATENTS}, a whole number, got "
                f"{start['guess']}."
            )
        start["deep"] = measured()

    def payload(self) -> bytes:
        """Principal components, linear models, digits as deep models decode them."""
        return (HERE / "weights/collapse.bin").read_bytes()

"""The condition explorer: which digit, and how it is written."""

from typing import Any, ClassVar

from .explorer import HERE, Explorer

LATENTS = (2, 4, 8, 20)
DIGITS = 20  # test digits whose style can be taken
DRAWS = 200  # of N(0, I)
SHOWN = 10  # of them in a row
PRIORS, PLANES = ("normal", "learned"), ("all", "class")


class ConditionExplorer(Explorer):
    """Choose a class y and a style z, and see what each of the two decides.

    Conditional VAEs of ``LATENTS`` latents whose decoders y enters by ``FiLM`` alone.
    One z is decoded with each y; the code of a test digit, decoded with another y, is
    an attribute swap. Draws of N(0, I) or of p(z|y), a normal fitted to the codes of
    each class, are decoded as y, and a digit classifier says what they show.
    State: ``latents``, one of ``LATENTS``; ``y``, from 0 to 9; ``start``, 0 for a draw
    of N(0, I) or 1 to 20 for the code of a test digit; ``draw``, which draw; ``z``, as
    many numbers as latents, or None for the start's own; ``plane`` of the map, "all"
    for the two directions in which all codes vary most or "class" for those in which
    the codes of y differ most from N(0, I); ``prior`` of the row of draws, "normal" or
    "learned"; ``row``, which ten of them.

    Raises:
        ValueError: for a state outside of these.

    """

    name = "condition"
    title = "Which digit, and how it is written"
    notice = (
        "y chooses the digit, z how it is written, and FiLM's bars move with y alone. "
        "But the more latents, the more z knows of y: fewer draws of N(0, I) show the "
        "digit asked for, and more of p(z|y)."
    )
    modules = ("shared", "digits")
    state: ClassVar[dict[str, Any]] = {
        "latents": 2,
        "y": 0,
        "start": 18,
        "draw": 0,
        "z": None,
        "plane": "all",
        "prior": "normal",
        "row": 0,
    }

    def __init__(self, **state: Any):
        super().__init__(**state)
        start: dict[str, Any] = self.start
        allowed = {
            "latents": LATENTS,
            "y": range(10),
            "start": range(DIGITS + 1),
            "draw": range(DRAWS),
            "plane": PLANES,
            "prior": PRIORS,
            "row": range(DRAWS // SHOWN),
        }
        for name, values in allowed.items():
            if start[name] not in values:
                raise ValueError(
                    f"Expected {name} to be one of {[*values]}, got {start[name]!r}."
                )
        if start["z"] is not None:
            start["z"] = [float(v) for v in start["z"]]
            if len(start["z"]) != start["latents"]:
                raise ValueError(
                    f"Expected z to be {start['latents']} numbers, one a latent, or "
                    f"None, got {len(start['z'])}."
                )

    def payload(self) -> bytes:
        """Rounded decoders, codes of test digits, draws and the judge's verdicts."""
        return (HERE / "weights/condition.bin").read_bytes()

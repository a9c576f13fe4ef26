"""The interpolate explorer: three paths between two latents, and what each costs."""

from typing import Any, ClassVar

from .explorer import HERE, Explorer

LATENTS = (2, 20, 128)
DIGITS, DRAWS = 8, 4  # ends to choose among: encoded test digits, draws of the prior
TIMES = 33  # positions of t


class InterpolateExplorer(Explorer):
    """Go from one latent to another: straight, along a sphere, or by the shortest way.

    Shortest under the decoder's metric, found beforehand for every pair of ends; the
    page computes the other two, and decodes all. VAEs of 2, 20 and 128 latents.
    State: ``latents``; ``ends``, "digits" (means of q(z|x) of 8 test digits) or "prior"
    (4 draws of N(0, I)); ``first`` and ``last``, which of them; ``t`` in [0, 1],
    brought to the nearest of 33 positions.

    Raises:
        ValueError: for other latents or ends, a number that is not one of the ends,
            two equal ends, or a t outside.

    """

    name = "interpolate"
    title = "Interpolate between two latents, three ways"
    notice = (
        "Compare draws of the prior with encoded digits, in 2 and in 20 latents: when "
        "does the straight path leave the shell? Then see where the shortest one goes."
    )
    modules = ("shared", "digits")
    state: ClassVar[dict[str, Any]] = {
        "latents": 20,
        "ends": "digits",
        "first": 2,
        "last": 6,
        "t": 0.5,
    }

    def __init__(self, **state: Any):
        super().__init__(**state)
        start: dict[str, Any] = self.start
        if start["latents"] not in LATENTS:
            raise ValueError(
                f"Expected latents among {LATENTS}, got {start['latents']}."
            )
        counts = {"digits": DIGITS, "prior": DRAWS}
        if start["ends"] not in counts:
            raise ValueError(
                f"Expected ends among {tuple(counts)}, got {start['ends']!r}."
            )
        count, both = counts[start["ends"]], (start["first"], start["last"])
        if not all(end in range(count) for end in both) or both[0] == both[1]:
            raise ValueError(
                f"Expected two ends, first and last, from 0 to {count - 1}, got {both}."
            )
        if not 0 <= start["t"] <= 1:
            raise ValueError(f"Expected t in [0, 1], got {start['t']}.")

    def payload(self) -> bytes:
        """Three decoders, ends, shortest paths, the judge's verdict along all paths."""
        return (HERE / "weights/interpolate.bin").read_bytes()

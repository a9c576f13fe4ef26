"""The codebook explorer: a digit as 49 integers, and what each of them draws."""

from typing import Any, ClassVar

from .explorer import HERE, Explorer

CODES, GRID = 256, 7
DIGITS = 30  # test digits to choose from


class CodebookExplorer(Explorer):
    """Quantise a digit, drawn or chosen, swap a code and see which pixels change.

    Two trained VQ-VAEs of 256 codes, from one start U(-1/256, 1/256): one without and
    one with restarts of dead codes. A patch of 4 x 4 pixels has one code; encoder and
    decoder see the 3 x 3 patches around it.
    State: ``restarts``, True or False; ``digit``, 0 to 29, of the test digits, three of
    each class; ``place``, 0 to 48, row by row; ``codes``, 49 integers that the decoder
    gets, or None for those of the digit; ``look``, what the palette shows of each code:
    its patch "here", at the place, or "average", over the training digits; ``seed`` of
    the samples.

    Raises:
        ValueError: for a state outside of these.

    """

    name = "codebook"
    title = "A digit is 49 integers"
    notice = (
        "Each patch of the digit is one of 256 codes. Click a patch, then another "
        "code: only pixels near it change. Switch the restarts off, and most of the "
        "codebook is dead."
    )
    modules = ("shared", "digits")
    state: ClassVar[dict[str, Any]] = {
        "restarts": True,
        "digit": 3,
        "place": 24,
        "codes": None,
        "look": "here",
        "seed": 0,
    }

    def __init__(self, **state: Any):
        super().__init__(**state)
        start: dict[str, Any] = self.start
        allowed = {
            "restarts": (False, True),
            "digit": range(DIGITS),
            "place": range(GRID * GRID),
            "look": ("here", "average"),
        }
        for name, values in allowed.items():
            if start[name] not in values:
                raise ValueError(
                    f"Expected {name} to be one of {[*values]}, got {start[name]!r}."
                )
        codes = start["codes"]
        if codes is None:
            return
        start["codes"] = codes = [int(code) for code in codes]
        if len(codes) != GRID * GRID or not all(0 <= k < CODES for k in codes):
            raise ValueError(
                f"Expected codes to be {GRID * GRID} integers from 0 to {CODES - 1}, "
                f"or None for those of the digit, got {codes}."
            )

    def payload(self) -> bytes:
        """Both VQ-VAEs, rounded; counts and patches of the codes; digits; samples."""
        return (HERE / "weights/codebook.bin").read_bytes()

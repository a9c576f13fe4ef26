"""Arrays and facts as one small blob: for a page to carry and a browser to inflate."""

import json
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32


class Rounded(NamedTuple):
    """Integers and the scale of each column: the numbers are ``integers * scale``."""

    integers: np.ndarray
    scale: Float32[np.ndarray, "*stack 1 columns"]

    @property
    def values(self) -> Float32[np.ndarray, "*stack rows columns"]:
        """The numbers that a page computes with."""
        return self.integers * self.scale


def rounded(
    weights: Float32[np.ndarray, "*stack rows columns"], bits: int = 8
) -> Rounded:
    """Round to 8 or 16 bits, with one scale a column of each matrix in the stack."""
    top = 2 ** (bits - 1) - 1
    largest = np.abs(weights).max(-2, keepdims=True)
    scale = np.maximum(largest / top, 1e-12).astype(np.float32)
    integers = np.round(weights / scale).astype({8: np.int8, 16: np.int16}[bits])
    return Rounded(integers, scale)


def pack(arrays: Mapping[str, np.ndarray | Rounded], facts: dict) -> bytes:
    """Deflate a JSON header and the arrays behind it, each at a multiple of 4 bytes.

    ``shared.js`` has the inverse, and so does ``unpack`` below.
    """
    entries, body = [], bytearray()

    def append(array):
        at = len(body)
        body.extend(np.ascontiguousarray(array).tobytes())
        body.extend(bytes(-len(body) % 4))
        return at

    for name, array in arrays.items():
        whole = array.integers if isinstance(array, Rounded) else array
        entry = {"name": name, "kind": str(whole.dtype), "shape": whole.shape}
        entry["at"] = append(whole)
        entry["scale_at"] = append(array.scale) if isinstance(array, Rounded) else None
        entries.append(entry)
    header = json.dumps({"arrays": entries, "facts": facts}, separators=(",", ":"))
    header = header.encode()
    header += b" " * (-len(header) % 4)
    return zlib.compress(len(header).to_bytes(4, "little") + header + bytes(body), 9)


def unpack(blob: bytes) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays, rounding undone, and the facts."""
    raw = zlib.decompress(blob)
    start = 4 + int.from_bytes(raw[:4], "little")
    header = json.loads(raw[4:start])
    arrays = {}
    for entry in header["arrays"]:
        shape = tuple(entry["shape"])
        array = _read(raw, entry["kind"], shape, start + entry["at"])
        if entry["scale_at"] is not None:
            columns = (*shape[:-2], 1, shape[-1])
            at = start + entry["scale_at"]
            array = Rounded(array, _read(raw, "float32", columns, at)).values
        arrays[entry["name"]] = array
    return arrays, header["facts"]


def _read(raw, kind, shape, at):
    count = int(np.prod(shape))
    return np.frombuffer(raw, np.dtype(kind), count, at).reshape(shape)

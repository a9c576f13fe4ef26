"""The types that signatures share. Values are in nats."""

import numpy as np
from jaxtyping import Array, Float, Key

Scalar = Float[Array, ""]
PRNGKey = Key[Array, ""]
Terms = dict[str, Scalar]
History = dict[str, np.ndarray]

"""Reference networks and real data to check them on.

`Problem` bundles what a gradient check needs. `load_digits` reads the embedded handwritten digits,
`load_idx` a user's own MNIST files. `mlp` is a plain network of any sizes with bugs to plant; the
other modules are networks as people have written them, each with the rule its author checked by.
"""

from fastcheck.problems.digits import load_digits
from fastcheck.problems.idx import load_idx
from fastcheck.problems.problem import Problem

__all__ = ["Problem", "load_digits", "load_idx"]

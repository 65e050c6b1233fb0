"""Few shapes of batches: their widths and their numbers of rows stand on the rungs of a ladder.

oneDNN, which multiplies PyTorch's matrices on a CPU, makes a kernel for every shape that it meets, and keeps a thousand
of them; CUDA's libraries choose theirs anew. With lengths as they come nearly every batch has a shape of its own. The
ladder has eight rungs between a power of two and the next, 8, 9 .. 16, 18 .. 32, 36 ..: the numbers of four significant
bits, of which any two multiply to one of few numbers of tokens. What it costs is a percent of padding.
"""

from typing import Any

import numpy as np

BITS = 4


def above(sizes: Any) -> Any:
    """The rungs at or above sizes of at least one, a number or i64 of any shape; as i64."""
    steps = _steps(sizes)
    return -(-sizes // steps) * steps


def below(size: int) -> int:
    """The rung at or below a size of at least one."""
    return int(size // _steps(size) * _steps(size))


def _steps(sizes: Any) -> Any:
    return np.int64(1) << np.maximum(np.frexp(sizes)[1] - BITS, 0).astype(np.int64)

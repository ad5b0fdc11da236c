"""Where each batch starts in the token stream: a run of D tokens sees the first D tokens, whatever the architecture.

Shapes: S steps, B sequences in a batch, T context.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from algoprogress.ablations.spec import RunSpec


def starts(spec: RunSpec, n_tokens: int) -> NDArray[np.int64]:
    """Offset of the first token of each sequence; (S, B).

    A model without memory gets windows of T tokens in shuffled order; a recurrent one gets B contiguous streams, each
    step going on where the last one ended. Beyond one epoch the same tokens come again, shuffled anew.

    Args:
        spec: the run.
        n_tokens: length of the training split.

    Raises:
        ValueError: the split is shorter than one batch.
    """
    T, B, S = spec.data.context, spec.batch_tokens // spec.data.context, spec.steps
    windows = min(spec.tokens, n_tokens - 1) // T  # each window's last target is the token after it
    if windows < B:
        raise ValueError(
            f"the training split has {n_tokens:,} tokens, less than one batch of {spec.batch_tokens:,}: "
            "use a larger corpus or a smaller batch_tokens"
        )
    rng = np.random.default_rng([spec.seed, 0])
    if spec.architecture.streams:
        length = windows // B  # of a stream, in windows
        turn = int(rng.integers(windows))  # the seed decides where the streams begin
        steps = np.arange(S)[:, None]
        lanes = np.arange(B)[None, :]
        order = (turn + lanes * length + steps % length) % windows
    else:
        epochs = -(-S * B // windows)
        order = np.concatenate([rng.permutation(windows) for _ in range(epochs)])[: S * B].reshape(S, B)
    return order.astype(np.int64) * T

"""Where each batch starts in the token stream: a run of D tokens sees the first D tokens, whatever the architecture.

Shapes: S steps, B sequences in a batch, T context.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.tokenizers import RECORD_ENDS

State = tuple[Tensor, ...] | None

RESIDENT = 0.1  # largest share of a GPU's free memory for tokens that stay on it


def starts(spec: RunSpec, n_tokens: int) -> NDArray[np.int64]:
    """Offset of the first token of each sequence; (S, B), or S rows of growing length where batches grow.

    A model without memory gets windows of T tokens in shuffled order; a recurrent one gets B contiguous streams, each
    step going on where the last one ended. Where the batch grows, the streams of each size are cut from the tokens of
    its own stage. Beyond one epoch the same tokens come again, shuffled anew. Images come in shuffled order too, each
    with its class as the last target.

    Args:
        spec: the run.
        n_tokens: length of the training split.

    Raises:
        ValueError: the split is shorter than one batch.
    """
    T, B, S = spec.data.context, spec.batch_tokens // spec.data.context, spec.steps
    if spec.data.images:
        record = T + RECORD_ENDS
        windows = min(spec.tokens // T, n_tokens // record)
    else:
        record = T
        windows = min(spec.tokens, n_tokens - 1) // T  # each window's last target is the token after it
    if windows < B:
        raise ValueError(
            f"the training split has {n_tokens:,} tokens, less than one batch of {spec.batch_tokens:,}: "
            "use a larger corpus or a smaller batch_tokens"
        )
    rng = np.random.default_rng([spec.seed, 0])
    if len(spec.stages) > 1:
        return _growing(spec, windows, record, rng)
    if spec.architecture.streams:
        length = windows // B  # of a stream, in windows
        turn = int(rng.integers(windows))  # the seed decides where the streams begin
        steps = np.arange(S)[:, None]
        lanes = np.arange(B)[None, :]
        order = (turn + lanes * length + steps % length) % windows
    else:
        epochs = -(-S * B // windows)
        order = np.concatenate([rng.permutation(windows) for _ in range(epochs)])[: S * B].reshape(S, B)
    return order.astype(np.int64) * record


def _growing(spec: RunSpec, windows: int, record: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """S rows in an object array: the windows in the order of whole batches, or streams for each stage."""
    T, rows = spec.data.context, list[NDArray[np.int64]]()
    turn = int(rng.integers(windows)) if spec.architecture.streams else 0
    epochs = 0 if spec.architecture.streams else -(-spec.tokens // T // windows)
    shuffled = np.concatenate([rng.permutation(windows) for _ in range(epochs)]) if epochs else np.arange(0)
    for stage in spec.stages:
        first, B = stage.start // T, stage.batch_tokens // T
        if spec.architecture.streams:
            lanes = turn + first + np.arange(B) * stage.steps
            rows += [(lanes + step) % windows * T for step in range(stage.steps)]
        else:
            rows += list(shuffled[first : first + stage.steps * B].reshape(stage.steps, B) * record)
    order = np.empty(len(rows), object)
    order[:] = rows
    return order


def carried(state: State, batch: Tensor) -> State:
    """The state to begin a batch with: none where a larger batch has begun other streams."""
    return None if state is None or state[0].shape[1] != len(batch) else state


class Batches:
    """The batches of a run by step, each (B, T + 1) int64 on the device; of K runs (K, B, T + 1).

    On a CPU a batch is gathered from the memory-mapped tokens. A GPU gets the tokens once, as they are stored, where
    they fit, and gathers there; else each next batch is copied from pinned memory while the present one is trained on.

    Args:
        tokens: one split.
        order_SB: offset of the first token of each sequence; (S, K, B) for K runs.
        context: T.
        device: where the batches are wanted.
    """

    def __init__(self, tokens: NDArray[Any], order_SB: NDArray[np.int64], context: int, device: torch.device) -> None:
        self._tokens, self._order_SB, self._device = tokens, order_SB, device
        self._within = np.arange(context + 1)
        self._resident: Tensor | None = None
        self._next: tuple[int, Tensor] | None = None
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if tokens.nbytes <= RESIDENT * free:
                self.move()

    def move(self) -> None:
        """Keep the tokens on the device."""
        # torch gathers signed integers only; the bits stay the same and are read as unsigned again
        signed = {1: np.uint8, 2: np.int16, 4: np.int32}[self._tokens.dtype.itemsize]
        self._resident = torch.from_numpy(np.array(self._tokens).view(signed)).to(self._device)

    def keep(self, runs: list[int]) -> None:
        """Go on with these of the K runs."""
        self._order_SB, self._next = self._order_SB[:, runs], None

    def __getitem__(self, step: int) -> Tensor:
        if self._resident is not None:
            at = torch.from_numpy(self._order_SB[step][..., None] + self._within).to(self._device, non_blocking=True)
            batch = self._resident[at].long()
            return batch & ((1 << 8 * self._resident.element_size()) - 1)
        return self._gather(step) if self._device.type == "cpu" else self.ahead(step)

    def ahead(self, step: int) -> Tensor:
        """The batch of a step, with the next one on its way."""
        batch = self._next[1] if self._next is not None and self._next[0] == step else self._send(step)
        self._next = (step + 1, self._send(step + 1)) if step + 1 < len(self._order_SB) else None
        return batch

    def _gather(self, step: int) -> Tensor:
        at = self._order_SB[step][..., None] + self._within
        return torch.from_numpy(np.asarray(self._tokens)[at].astype(np.int64))

    def _send(self, step: int) -> Tensor:
        batch = self._gather(step)
        return (batch.pin_memory() if torch.cuda.is_available() else batch).to(self._device, non_blocking=True)

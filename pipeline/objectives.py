"""What is read and what is to be predicted: the next token, tokens that were masked, or the class of an image.

Shapes: N windows (of a batch: B), T context, M targets of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from algoprogress.ablations.ops import UNSCORED
from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.tokenizers import RECORD_ENDS

if TYPE_CHECKING:
    from algoprogress.pipeline.corpora.tokens import Tokens

# Devlin et al. 2019: of each window 15 % of the tokens are to be predicted. Of these 80 % are read as the mask, 10 % as
# a token drawn from the vocabulary, and 10 % as they are.
SHARE, AS_MASK, AS_ANOTHER = 0.15, 0.8, 0.1
TRAINING, VALIDATION = 2, 3  # streams of random numbers; 0 is the order of a run's windows


def check(spec: RunSpec, tokens: Tokens) -> None:
    """Whether the run is for these tokens.

    Raises:
        ValueError: it is for another vocabulary, or for images of another size.
    """
    if tokens.vocab_size != spec.data.vocab_size:
        raise ValueError(f"the tokens have a vocabulary of {tokens.vocab_size}, the spec says {spec.data.vocab_size}")
    if spec.data.images and tokens.image_values != spec.data.context:
        raise ValueError(
            f"the images of {tokens.corpus} have {tokens.image_values} values, and the spec's context is "
            f"{spec.data.context}: set data.context to {tokens.image_values}"
        )


def examples(spec: RunSpec, batch: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """What the model reads and what it is to predict at a step of training.

    Args:
        spec: the run.
        batch: (B, T + 1) tokens that follow each other; of K runs (K, B, T + 1).
        step: counted from 0; with the seed it decides what is masked.

    Returns:
        (read, targets): (B, T) each, or (B, T) and (B, 1) for a class; a target that does not count is UNSCORED.
    """
    if spec.architecture.objective == "class":
        return batch[..., :-1], batch[..., -1:]
    if spec.architecture.objective == "masked tokens":
        return mask(batch[..., :-1], spec.data.vocab_size, [spec.seed, TRAINING, step])
    return batch[..., :-1], batch[..., 1:]


@dataclass(frozen=True)
class Scored:
    """What a model is validated on.

    Attributes:
        x_NT: what is read.
        y_NM: the targets; one that does not count is UNSCORED.
        place_NM: of each target in the split, in tokens.
    """

    x_NT: Tensor
    y_NM: Tensor
    place_NM: Tensor


def n_windows(spec: RunSpec, n_tokens: int) -> int:
    """Whole windows in a split of that many tokens."""
    T = spec.data.context
    return n_tokens // (T + RECORD_ENDS) if spec.data.images else (n_tokens - 1) // T


def validation(spec: RunSpec, split: NDArray[Any], n: int) -> Scored:
    """The first n windows of a split; what is masked in them is the same for every run.

    Args:
        spec: the run.
        split: its tokens.
        n: at most `n_windows`.
    """
    T = spec.data.context
    stride = T + RECORD_ENDS if spec.data.images else T
    first_N = torch.arange(n)[:, None] * stride
    stream = torch.from_numpy(np.asarray(split[: n * stride + 1], dtype=np.int64))
    if spec.data.images:
        records = stream[: n * stride].view(n, stride)
        return Scored(records[:, :T], records[:, T : T + 1], first_N + T)
    x_NT, at_NT = stream[:-1].view(n, T), first_N + torch.arange(T)
    if spec.architecture.objective == "masked tokens":
        return Scored(*mask(x_NT, spec.data.vocab_size, [VALIDATION]), at_NT)
    return Scored(x_NT, stream[1:].view(n, T), at_NT + 1)


def mask(tokens_NT: Tensor, vocab_size: int, seed: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Windows with 15 % of their tokens to be restored, and those tokens.

    Each window has the same number of them, at least one, so that a batch's mean is that of its parts. A window's mask
    depends on the seed and on its place among the windows, not on how many there are.

    Args:
        tokens_NT: in [0, vocab_size).
        vocab_size: V; the mask is the token V.
        seed: of the choice.

    Returns:
        (read_NT, targets_NT): a target that was not chosen is UNSCORED.
    """
    N, T = tokens_NT.shape
    where, how, instead = (np.random.default_rng([*seed, k]) for k in range(3))
    chosen = max(1, round(SHARE * T))
    at_NM = torch.from_numpy(where.random((N, T)).argsort(axis=1)[:, :chosen].copy()).to(tokens_NT.device)
    u_NM = torch.from_numpy(how.random((N, chosen))).to(tokens_NT.device)
    another_NM = torch.from_numpy(instead.integers(0, vocab_size, (N, chosen))).to(tokens_NT.device)
    true_NM = tokens_NT.gather(1, at_NM)
    read_NM = torch.where(u_NM < AS_MASK, vocab_size, torch.where(u_NM < AS_MASK + AS_ANOTHER, another_NM, true_NM))
    targets_NT = torch.full_like(tokens_NT, UNSCORED).scatter(1, at_NM, true_NM)
    return tokens_NT.scatter(1, at_NM, read_NM), targets_NT

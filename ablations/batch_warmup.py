"""A batch that grows: small while the gradient of a few tokens says enough, whole once it does not.

The noise in the gradient of a batch matters the more the longer a run has trained (McCandlish et al. 2018), and a
larger batch does what a smaller rate does (Smith et al. 2018). So Brown et al. 2020 begin with small batches, and
Chowdhery et al. 2022 double theirs twice. All tokens and FLOP stay as they are; there are only more steps for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

WARMED = 0.25  # share of the tokens before batches are whole: 24 % in Chowdhery et al. 2022, PaLM's largest model


class Stage(NamedTuple):
    """Steps of one size: `steps` batches of `batch_tokens`, the first of which begins at token `start` of the run."""

    steps: int
    batch_tokens: int
    start: int


@lru_cache(maxsize=1024)
def stages(tokens: int, batch_tokens: int, n_stages: int) -> tuple[Stage, ...]:
    """Batches of batch_tokens / 2^(n - 1), ..., / 2, in equal shares of the first quarter of the tokens; then whole.

    Each stage has whole batches' worth of tokens, so that the last begins where a whole batch would; a run of few
    batches may have none to spare for some of the stages.

    Args:
        tokens: of the run, a multiple of batch_tokens.
        batch_tokens: of a whole batch.
        n_stages: 1 for whole batches alone.

    Raises:
        ValueError: a batch that cannot be halved so often.
    """
    whole, small = tokens // batch_tokens, n_stages - 1
    warmed = round(WARMED * whole)
    if batch_tokens % 2**small:
        raise ValueError(f"a batch of {batch_tokens} tokens cannot be halved {small} times: take fewer batch_stages")
    found, start = [], 0
    for k in range(small):
        share = (warmed * (k + 1)) // small - (warmed * k) // small
        found.append(Stage(share * 2 ** (small - k), batch_tokens // 2 ** (small - k), start))
        start += share * batch_tokens
    return (*found, Stage(whole - warmed * bool(small), batch_tokens, start))


def steps(of: Sequence[Stage]) -> int:
    return sum(stage.steps for stage in of)


def tokens_after(of: Sequence[Stage], step: int) -> int:
    """Tokens of the first `step` batches."""
    for stage in of:
        if step <= stage.steps:
            break
        step -= stage.steps
    return stage.start + step * stage.batch_tokens

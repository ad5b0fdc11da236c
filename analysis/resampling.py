"""Resamples of runs as weights: how often each run, or each cluster of runs, is drawn with replacement."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

COMPUTE_BIN = 0.25  # width in log10 of compute of a bin where no isoFLOP budgets stand out: ours, finer than a budget
WEBB_BELOW = 12  # clusters: with fewer, Rademacher's two weights give too few different resamples (Webb 2014)
WEBB = np.sqrt([0.5, 1.0, 1.5])  # with either sign: mean 0, variance 1, fourth moment 7/6


def resamples(
    rows: Sequence[np.ndarray], groups: np.ndarray | None, n_resamples: int, seed: int, at_once: int
) -> Iterator[np.ndarray]:
    """Weights (b, n) of n runs, or of the runs of clusters, drawn with replacement, in parts of at most at_once.

    Runs are drawn within each arm, and so are clusters of which each lies within one arm; others are drawn whole. The
    stream is numpy's RandomState, because published errors can then be had draw by draw: with seed 42, pairs of one arm
    are the resamples of Besiroglu et al. 2024.

    Args:
        rows: of each arm.
        groups: numbers (n,) of clusters; None draws runs.
        n_resamples: of all parts together.
        at_once: most weights in memory at a time.
    """
    n = sum(len(r) for r in rows)
    alone = groups is None
    groups = np.arange(n) if groups is None else groups
    strata = _strata(rows, groups)
    rng = np.random.RandomState(seed)
    size = max(1, at_once // n)
    for first in range(0, n_resamples, size):
        b = min(size, n_resamples - first)
        weight_BG = np.empty((b, int(groups.max()) + 1))
        for members in strata:
            weight_BG[:, members] = _counts(len(members), b, rng)
        yield weight_BG if alone else weight_BG[:, groups]


def fractional_resamples(
    rows: Sequence[np.ndarray], groups: np.ndarray, n_resamples: int, seed: int, at_once: int
) -> Iterator[np.ndarray]:
    """As `resamples`, with weights of 1 on average that are uniform on the simplex in place of whole numbers.

    No cluster ever falls out, so that each resample still has every size and every budget: where few carry a parameter,
    whole numbers make its interval too long (the Bayesian bootstrap, Rubin 1981; Xu, Gotwalt, Hong, King and Meeker
    2020).
    """
    strata = _strata(rows, groups)
    rng = np.random.default_rng(seed)
    size = max(1, at_once // len(groups))
    for first in range(0, n_resamples, size):
        weight_BG = rng.standard_exponential((min(size, n_resamples - first), int(groups.max()) + 1))
        for members in strata:
            weight_BG[:, members] /= weight_BG[:, members].mean(1, keepdims=True)
        yield weight_BG[:, groups]


def _strata(rows: Sequence[np.ndarray], groups: np.ndarray) -> list[np.ndarray]:
    """What is drawn within itself: the clusters of each arm, or all of them where one reaches over arms."""
    strata = [np.unique(groups[r]) for r in rows]
    return strata if sum(map(len, strata)) == len(np.unique(groups)) else [np.unique(groups)]


def wild_weights(rng: np.random.Generator, n_resamples: int, n_clusters: int) -> np.ndarray:
    """Weights (B, G) with mean 0 and variance 1: ±1 (Rademacher), or Webb's six points where clusters are few."""
    sign = rng.choice([-1.0, 1.0], (n_resamples, n_clusters))
    return sign if n_clusters >= WEBB_BELOW else sign * rng.choice(WEBB, (n_resamples, n_clusters))


def compute_bins(compute: np.ndarray) -> np.ndarray:
    """Bins (n,) of compute in FLOP, COMPUTE_BIN wide in log10."""
    return np.floor(np.log10(compute) / COMPUTE_BIN).astype(int)


def cluster_labels(frame: pd.DataFrame, cluster: str) -> np.ndarray:
    """Labels (n,) from a column, or from `compute_bin` where there is no such column."""
    if cluster in frame:
        if frame[cluster].isna().any():
            raise ValueError(f"{int(frame[cluster].isna().sum())} runs have no {cluster!r} to be clustered by.")
        return pd.factorize(frame[cluster])[0]
    if cluster == "compute_bin":
        return compute_bins(frame["compute"].to_numpy(float))
    raise ValueError(
        f"There is no column {cluster!r} to cluster by; there are compute_bin (bins of log compute), "
        f"{', '.join(map(str, frame.columns))}."
    )


def _counts(n: int, n_resamples: int, rng: np.random.RandomState) -> np.ndarray:
    drawn = rng.randint(0, n, (n_resamples, n))
    drawn += n * np.arange(n_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * n_resamples).reshape(n_resamples, n).astype(float)

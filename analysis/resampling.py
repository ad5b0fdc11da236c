"""Resamples of runs as weights: how often each run, or each cluster of runs, is drawn with replacement."""

import numpy as np
import pandas as pd

COMPUTE_BIN = 0.25  # width in log10 of compute of a bin where no isoFLOP budgets stand out: ours, finer than a budget


def pairs(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """Weights (B, n) of n runs drawn with replacement.

    The stream is numpy's RandomState, because published errors can then be had draw by draw: with seed 42 these are the
    resamples of Besiroglu et al. 2024.
    """
    return _counts(n, n_resamples, seed)


def clusters(labels: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Weights (B, n) where whole clusters are drawn with replacement: for runs that share noise, or rows of one run."""
    _, of = np.unique(labels, return_inverse=True)
    return _counts(int(of.max()) + 1, n_resamples, seed)[:, of]


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


def _counts(n: int, n_resamples: int, seed: int) -> np.ndarray:
    drawn = np.random.RandomState(seed).randint(0, n, (n_resamples, n))
    drawn += n * np.arange(n_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * n_resamples).reshape(n_resamples, n).astype(float)

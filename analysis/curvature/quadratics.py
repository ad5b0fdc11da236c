"""Why do blocks matter?  Gradient descent, Adam and blockwise rates on quadratics whose spectrum is known by blocks.

    python -m algoprogress.analysis.curvature.quadratics

prints the theory's rate of each beside the measured one. After Zhang et al. 2024 (arXiv 2402.16788, section 4): one
rate cannot fit blocks that are curved differently, and Adam's coordinates have one each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Both have the same nine eigenvalues and the condition number 5,000 of the paper's study; only the blocks differ
SPECTRA: dict[str, tuple[tuple[float, ...], ...]] = {
    "heterogeneous": ((1, 2, 3), (99, 100, 101), (4998, 4999, 5000)),
    "homogeneous": ((1, 99, 4998), (2, 100, 4999), (3, 101, 5000)),
}
SEEDS = 20
TOLERANCE = 1e-10  # of the first loss: small enough for the slowest direction to set the pace, far above rounding
MAX_STEPS = 50_000  # gradient descent at condition number 5,000 needs ln(1e10) 5000 / 4 = 29,000
EVERY = 10  # steps between two looks at the loss of a slow method


def block_diagonal(spectrum: Sequence[Sequence[float]], rng: np.random.Generator) -> Array:
    """H with these eigenvalues in each diagonal block, whose eigenvectors are random; (n, n)."""
    n = sum(map(len, spectrum))
    H, at = np.zeros((n, n)), 0
    for eigenvalues in spectrum:
        k = len(eigenvalues)
        Q, R = np.linalg.qr(rng.standard_normal((k, k)))
        Q *= np.sign(np.diag(R))  # so that Q is uniform: Mezzadri 2007
        H[at : at + k, at : at + k] = Q @ np.diag(eigenvalues) @ Q.T
        at += k
    return H


def gradient_descent(H: Array, x: Array, sizes: Sequence[int]) -> Array:
    """One rate for all coordinates."""
    return np.ones(len(H))


def blockwise(H: Array, x: Array, sizes: Sequence[int]) -> Array:
    """A rate for each block, 2 / (mu + L) of its own eigenvalues."""
    ends = np.cumsum(sizes)
    parts = [np.linalg.eigvalsh(H[end - k : end, end - k : end]) for k, end in zip(sizes, ends, strict=True)]
    return np.concatenate([np.full(k, (part[0] + part[-1]) / 2) for k, part in zip(sizes, parts, strict=True)])


def adam(H: Array, x: Array, sizes: Sequence[int]) -> Array:
    """sqrt(v) of Adam with beta1 = 0, beta2 = 1 and eps = 0, as in the paper's theorem: v stays the first g squared.

    With beta2 < 1 and a constant rate there is no convergence to a point whose rate could be measured.
    """
    return np.abs(H @ x)


METHODS: dict[str, Callable[[Array, Array, Sequence[int]], Array]] = {
    "GD": gradient_descent,
    "Adam": adam,
    "blockwise SGD": blockwise,
}


def condition_number(H: Array, scales: Array) -> tuple[float, float]:
    """(kappa, best rate 2 / (mu + L)) of D^-1 H, D = diag(scales): it has the eigenvalues of D^-1/2 H D^-1/2."""
    roots = np.sqrt(scales)
    eigenvalues = np.linalg.eigvalsh(H / roots[:, None] / roots)
    return float(eigenvalues[-1] / eigenvalues[0]), float(2 / (eigenvalues[0] + eigenvalues[-1]))


def rate_of(kappa: float) -> float:
    """((kappa - 1) / (kappa + 1))^2: by how much a step multiplies the loss in the end, at the best constant rate."""
    return ((kappa - 1) / (kappa + 1)) ** 2


def descend(H_Snn: Array, x_Sn: Array, steps_Sn: Array, max_steps: int = MAX_STEPS) -> tuple[Array, Array]:
    """x <- x - steps H x for S problems at once, until every loss x'Hx/2 is TOLERANCE of the first.

    Args:
        H_Snn: the quadratics.
        x_Sn: where they begin.
        steps_Sn: rate of each coordinate.
        max_steps: after which those that are not there are given up.

    Returns:
        Steps taken, NaN where given up; and the mean factor on the loss per step over the latter half of them. (S,).
    """
    x, looks, at = x_Sn.copy(), [], []
    t, every = 0, 1
    while True:
        Hx = np.einsum("sij,sj->si", H_Snn, x)
        if t % every == 0:
            looks.append((x * Hx).sum(1) / 2)
            at.append(t)
            if t == max_steps or (looks[-1] <= TOLERANCE * looks[0]).all():
                break
        x -= steps_Sn * Hx
        t += 1
        every = 1 if t < 1000 else EVERY
    losses, times = np.array(looks), np.array(at, float)
    arrived = losses <= TOLERANCE * losses[0]
    last = np.where(arrived.any(0), arrived.argmax(0), len(times) - 1)
    half = np.array([np.searchsorted(times, times[k] / 2) for k in last])
    S = np.arange(len(last))
    measured = (losses[last, S] / losses[half, S]) ** (1 / (times[last] - times[half]))
    return np.where(arrived.any(0), times[last], np.nan), measured


def run(seeds: int = SEEDS, max_steps: int = MAX_STEPS) -> pd.DataFrame:
    """[spectrum, method, seed, kappa, theory, measured, steps]: rates per step, and steps to TOLERANCE."""
    tables = []
    for name, spectrum in SPECTRA.items():
        sizes = [len(block) for block in spectrum]
        problems, starts = [], []
        for seed in range(seeds):
            rng = np.random.default_rng([seed, 0])
            problems.append(block_diagonal(spectrum, rng))
            starts.append(rng.standard_normal(sum(sizes)))
        for method, scales_of in METHODS.items():
            scales = [scales_of(H, x, sizes) for H, x in zip(problems, starts, strict=True)]
            known = [condition_number(H, d) for H, d in zip(problems, scales, strict=True)]
            rates = np.array([best / d for d, (_, best) in zip(scales, known, strict=True)])
            steps, measured = descend(np.array(problems), np.array(starts), rates, max_steps)
            kappa = [kappa for kappa, _ in known]
            tables.append(
                pd.DataFrame(
                    {
                        "spectrum": name,
                        "method": method,
                        "seed": range(seeds),
                        "kappa": kappa,
                        "theory": list(map(rate_of, kappa)),
                        "measured": measured,
                        "steps": steps,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds; a run that was given up counts as longer than all. `ahead` of gradient descent, by steps."""
    rows = []
    for (spectrum, method), part in runs.groupby(["spectrum", "method"], sort=False):
        same = (runs["spectrum"] == spectrum) & (runs["method"] == "GD")
        gd = runs[same].set_index("seed")["steps"].fillna(np.inf)
        steps = part.set_index("seed")["steps"].fillna(np.inf)
        rows.append(
            {
                "spectrum": spectrum,
                "method": method,
                "kappa": part["kappa"].median(),
                "1 - theory": (1 - part["theory"]).median(),
                "1 - measured": (1 - part["measured"]).median(),
                "steps": steps.median(),
                "ahead": "-" if method == "GD" else f"{int((steps < gd).sum())}/{len(steps)}",
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = parser.parse_args().seeds
    if seeds < 1:
        parser.error(f"--seeds takes at least 1, not {seeds}")
    print(summary(run(seeds)).to_string(index=False, float_format=lambda x: f"{x:.4g}"))


if __name__ == "__main__":
    main()

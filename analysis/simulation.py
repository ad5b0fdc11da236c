"""Simulated studies with a known law, to ask of any estimate here: does it recover what was put in?"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

Law = tuple[float, float, float]  # E, A, alpha
LADDER = (1e11, 3e11, 1e12, 3e12)


def simulate_runs(
    laws: Mapping[str, Law],
    budgets: Sequence[float] | Mapping[str, Sequence[float]] = LADDER,
    noise: float = 0.0,
    noise_exponent: float = 0.0,
    sizes: Sequence[float] = (-0.5, 0.0, 0.5),
    rates: Sequence[float] = (-0.5, 0.0, 0.5),
    penalties: tuple[float, float] = (0.10, 0.15),
    n_seeds: int = 1,
    n_best_seeds: int = 2,
    budget_error: float = 0.03,
    tuning_error: float = 0.0,
    rung_noise: float = 0.0,
    shared: float = 0.0,
    swept: Collection[float] | None = None,
    repeated: Collection[float] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """L = E + A C^-alpha + penalties * (offset in ln size², ln rate²) + seed noise, on a ladder of compute.

    Args:
        laws: (E, A, alpha) of each arm's best configuration.
        budgets: FLOP, for all arms or for each.
        noise: standard deviation between seeds in nats/token at the first budget.
        noise_exponent: the noise falls as (C / budgets[0])^-noise_exponent.
        sizes, rates: offsets of the configurations tried from the best, in ln; the best itself is at 0.
        penalties: nats/token for one unit of offset squared in size and in rate.
        n_seeds: seeds of every configuration; n_best_seeds: of the one that looks best after that.
        budget_error: the true compute lies within this share of its budget.
        tuning_error: standard deviation in ln of where the true optimum lies within the grid of offsets.
        rung_noise: standard deviation in nats/token of what all runs of an arm at one budget have in common (cluster
            noise), which no repeat with another seed shows.
        shared: share of the variance between seeds that arms have in common at the same budget and seed (one order of
            data, one set of evaluation tokens).
        swept: budgets at which all sizes and rates are tried; elsewhere only those at offset 0.
        repeated: budgets at which the best is repeated; by default all.
    """
    rng = np.random.default_rng(seed)
    common = np.random.default_rng([seed, 1])
    ladders = {arm: list(budgets[arm] if isinstance(budgets, Mapping) else budgets) for arm in laws}
    lowest = min(min(ladder) for ladder in ladders.values())
    most_seeds = max(n_seeds, n_best_seeds)
    seeds_in_common = {b: common.standard_normal(most_seeds) for b in sorted({b for x in ladders.values() for b in x})}
    rows: list[dict] = []
    for arm, (E, A, alpha) in laws.items():
        for budget in ladders[arm]:
            sd = noise * (budget / lowest) ** -noise_exponent
            together = np.sqrt(shared) * sd * seeds_in_common[budget]
            alone = np.sqrt(1 - shared) * sd
            shift = tuning_error * rng.standard_normal(2)
            of_rung = rung_noise * common.standard_normal() if rung_noise else 0.0
            whole = swept is None or budget in swept
            tried = []
            for size in sizes if whole else (0.0,):
                compute = budget * (1 + budget_error * rng.uniform(-1, 1))
                for rate in rates if whole else (0.0,):
                    penalty = penalties[0] * (size - shift[0]) ** 2 + penalties[1] * (rate - shift[1]) ** 2
                    best = E + A * compute**-alpha + penalty + of_rung
                    losses = best + together[:n_seeds] + alone * rng.standard_normal(n_seeds)
                    tried.append((losses.mean(), best, compute, size, rate, list(losses)))
            _, best, _, _, _, losses = min(tried, key=lambda t: t[0])
            if n_best_seeds > n_seeds and (repeated is None or budget in repeated):
                losses.extend(best + together[n_seeds:] + alone * rng.standard_normal(n_best_seeds - n_seeds))
            for _, _, compute, size, rate, losses in tried:
                rows.extend(
                    {
                        "arm": arm,
                        "compute": compute,
                        "loss": loss,
                        "seed": s,
                        "compute_budget": budget,
                        "n_params": round(1e4 * np.exp(size)),
                        "learning_rate": 0.01 * np.exp(rate),
                        "configuration_id": f"{arm}-{budget:.0e}-{size:+.2f}-{rate:+.2f}",
                        "run_id": f"{arm}-{budget:.0e}-{size:+.2f}-{rate:+.2f}-{s}",
                        "status": "done",
                        "epochs_seen": 0.1,
                    }
                    for s, loss in enumerate(losses)
                )
    return pd.DataFrame(rows)


SizeLaw = tuple[float, float, float, float, float]  # E, A, B, alpha, beta
ISOFLOP = tuple(float(c) for c in np.geomspace(1e17, 1e20, 7))


def simulate_isoflop(
    laws: Mapping[str, SizeLaw],
    budgets: Sequence[float] = ISOFLOP,
    n_sizes: int = 7,
    spread: float = 1.5,
    noise: float = 0.0,
    size_noise: float = 0.0,
    budget_noise: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """ln L = ln(E + A N^-alpha + B D^-beta) + noise, on a grid of sizes that each budget sees a window of, D = C / 6 N.

    Args:
        laws: (E, A, B, alpha, beta) of each arm.
        budgets: FLOP.
        n_sizes: models at each budget.
        spread: of ln N around the best at each budget.
        noise: standard deviation of log loss of each run.
        size_noise: ... of what all runs of one size have in common, as checkpoints of one training do.
        budget_noise: ... of what all runs of one budget have in common.
        seed: of the noise.

    Returns:
        [arm, compute, n_params, tokens, loss, run_id, size], size a label of the cluster.
    """
    rng = np.random.default_rng(seed)
    step = 2 * spread / (n_sizes - 1)
    parts = []
    for arm, (E, A, B, alpha, beta) in laws.items():
        G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        best = np.log(G * (np.asarray(budgets) / 6) ** (beta / (alpha + beta)))
        k = np.round(best / step)[:, None] + np.arange(n_sizes) - n_sizes // 2  # sizes are on one grid for all budgets
        N, C = np.exp(k * step), np.repeat(np.asarray(budgets, float)[:, None], n_sizes, 1)
        D = C / 6 / N
        sizes, which = np.unique(k, return_inverse=True)
        of_size = size_noise * rng.standard_normal(len(sizes))[which.reshape(k.shape)]
        of_budget = budget_noise * rng.standard_normal(len(budgets))[:, None]
        log_loss = np.log(E + A * N**-alpha + B * D**-beta) + of_size + of_budget + noise * rng.standard_normal(N.shape)
        parts.append(
            pd.DataFrame(
                {
                    "arm": arm,
                    "compute": C.ravel(),
                    "n_params": N.ravel(),
                    "tokens": D.ravel(),
                    "loss": np.exp(log_loss).ravel(),
                    "size": [f"{arm}-{int(s)}" for s in k.ravel()],
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    return table.assign(run_id=[f"run-{i}" for i in range(len(table))])

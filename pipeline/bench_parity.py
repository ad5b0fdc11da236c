"""Does bfloat16 cost loss? The same runs in both dtypes, seed by seed: a paired test, beside the noise of seeds.

The `demo` study's models. Where the hardware multiplies in bfloat16 they are those of its 1e11-FLOP rung; where torch
only emulates it, a hundred times slower, those of `smoke`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algoprogress.ablations.spec import RunSpec

SEEDS = range(5)
BUDGET, SMALL_BUDGET = 1e11, 8e9  # FLOP


def specs() -> dict[str, RunSpec]:
    """arm -> its run at one budget and one learning rate."""
    from algoprogress.ablations.studies.demo import demo
    from algoprogress.ablations.studies.smoke import smoke
    from algoprogress.pipeline.policy import best_dtype

    study, budget = (demo(), BUDGET) if best_dtype() == "bfloat16" else (smoke(), SMALL_BUDGET)
    found: dict[str, RunSpec] = {}
    for arm, entry in study.entries():
        if entry.compute_budget == budget:
            found.setdefault(arm, entry.spec)
    return found


def rows() -> list[dict[str, Any]]:
    """One row per arm: mean losses, their difference by seed with a 95 % interval, and the seeds' standard deviation.

    `holds`: the mean difference is within the seeds' standard deviation, or the paired test cannot tell it from zero.
    """
    import numpy as np
    from scipy import stats

    from algoprogress.pipeline.data import open_tokens, resolve
    from algoprogress.pipeline.output import note
    from algoprogress.pipeline.policy import choose, lstm_in_bfloat16
    from algoprogress.pipeline.trainer import train

    sha256 = resolve("python").sha256
    tokens = open_tokens("python", sha256)
    found = []
    for arm, spec in specs().items():
        if spec.architecture.name == "lstm" and not lstm_in_bfloat16():
            note(f"{arm} is left out: torch has no LSTM in bfloat16 for this processor")
            continue
        data = spec.data.model_copy(update={"corpus": "python", "corpus_sha256": sha256})
        losses = {}
        for dtype in ("float32", "bfloat16"):
            runs = [spec.model_copy(update={"seed": seed, "dtype": dtype, "data": data}) for seed in SEEDS]
            losses[dtype] = np.array([train(r, tokens, policy=choose("cpu", dtype)).record["loss"] for r in runs])
        difference = losses["bfloat16"] - losses["float32"]
        test = stats.ttest_1samp(difference, 0.0)
        low, high = test.confidence_interval(0.95)
        noise = losses["float32"].std(ddof=1)
        found.append(
            {
                "case": f"{arm}, {spec.n_params:,} parameters, {spec.tokens:,} tokens, seeds {SEEDS[0]} to {SEEDS[-1]}",
                "ours": losses["bfloat16"].mean(),
                "peer": losses["float32"].mean(),
                "ratio": losses["bfloat16"].mean() / losses["float32"].mean(),
                "unit": "nats/token",
                "target": None,
                "holds": bool(abs(difference.mean()) <= noise or test.pvalue > 0.05),
                "difference": difference.mean(),
                "difference_low": low,
                "difference_high": high,
                "p": test.pvalue,
                "seed_sd": noise,
            }
        )
    return found

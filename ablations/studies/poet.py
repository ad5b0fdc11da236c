"""POET against AdamW on the demo's ladder: sampling, block size, order of the series, merging and initial weights."""

from __future__ import annotations

from collections.abc import Callable, Collection

from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.reparameterizations.poet import POET
from algoprogress.ablations.reparameterizations.poet_bs import POETBlockStochastic
from algoprogress.ablations.reparameterizations.poet_fs import POETFullyStochastic
from algoprogress.ablations.spec import Evaluation, RunSpec
from algoprogress.ablations.studies.demo import DATA, INIT, LADDER, VALIDATION_TOKENS
from algoprogress.ablations.study import Entry, Study, Sweep, question, studies

SIZES = {1e11: (32, 1), 3e11: (48, 1), 1e12: (48, 2)}  # FLOP -> width and layers: the demo's modern arm
ABLATED = 3e11  # where a single field is varied
# The paper has T_m = 400 in runs of 300,000 steps and more; these have 1,000 to 2,000, and Adam needs tens of steps
# after each merge to fill its averages anew.
MERGE_EVERY = 100

Recipe = Callable[[int], POET | None]  # width -> reparameterization


def blocks(share: int, **fields: object) -> Recipe:
    """Block stochastic, with blocks of that share of the width: the paper's 64, 128 and 256 are 1/8 to 1/2 of 512."""
    return lambda width: POETBlockStochastic.model_validate(
        {"block": width // share, "merge_every": MERGE_EVERY, **fields}
    )


def fraction(of_width: float) -> Recipe:
    return lambda width: POETFullyStochastic(fraction=of_width, merge_every=MERGE_EVERY)


def arm(recipe: Recipe, middle: float, budgets: Collection[float] = tuple(SIZES)) -> tuple[Entry, ...]:
    """One model a budget, the same for every arm but for its reparameterization, and three rates a factor 2 apart."""
    entries = []
    for budget in budgets:
        width, n_layers = SIZES[budget]
        # 3: the feed-forward width is a multiple of every block
        model = Transformer.preset("modern", width=width, n_layers=n_layers, ff_ratio=3, **INIT)
        poet = recipe(width)
        (row,) = isoflop(budget, [model], DATA.vocab_size, DATA.context, LADDER[budget], reparameterization=poet)
        entries += [
            Entry(
                spec=RunSpec(
                    architecture=model,
                    tokens=row.tokens,
                    batch_tokens=LADDER[budget],
                    learning_rate=rate,
                    reparameterization=poet,
                    data=DATA,
                    evaluation=Evaluation(tokens=VALIDATION_TOKENS),
                ),
                compute_budget=budget,
            )
            for rate in (middle / 2, middle, 2 * middle)
        ]
    return tuple(entries)


@studies.register("poet")
def poet() -> Study:
    """What does POET gain or lose in compute against AdamW, and which of its choices decide?

    Every arm's rate is swept at every budget. The products that form R W0 P count as compute.
    """
    arms = {
        "adamw": arm(lambda _: None, 0.01),
        "bs_1/8": arm(blocks(8), 0.024),
        "bs_1/4": arm(blocks(4), 0.012),
        "bs_1/2": arm(blocks(2), 0.012),
        "fs_1/8": arm(fraction(1 / 8), 0.024),
        "fs_1/4": arm(fraction(1 / 4), 0.012),
        "fs_1/2": arm(fraction(1 / 2), 0.012),
    }
    arms |= {f"order_{k}": arm(blocks(4, order=k), 0.012, [ABLATED]) for k in (1, 2, 4)}
    arms["exact"] = arm(blocks(4, order=None), 0.012, [ABLATED])
    arms |= {f"merge_{n}": arm(blocks(4, merge_every=n), 0.012, [ABLATED]) for n in (10, 50, 400)}
    arms |= {name: arm(blocks(4, init=name), 0.012, [ABLATED]) for name in ("uniform_spectrum", "standard", "xavier")}
    return Study(name="poet", question=question(poet), baseline="adamw", arms=arms, sweep=Sweep(extensions=2))

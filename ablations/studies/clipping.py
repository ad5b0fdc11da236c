"""Optimizers with and without clipping, by coordinate and by norm: how much of Adam's lead is large coordinates?"""

from __future__ import annotations

from algoprogress.ablations.optimizers import OptimizerConfig
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.clipping import Of, clipped
from algoprogress.ablations.optimizers.lion import Lion
from algoprogress.ablations.optimizers.sgd import SGD
from algoprogress.ablations.optimizers.sign import Sign
from algoprogress.ablations.optimizers.signum import Signum
from algoprogress.ablations.probes import Probing, Sharpness
from algoprogress.ablations.studies.optimizer_swap import arm as arm_of
from algoprogress.ablations.study import Entry, Study, Sweep, question, studies

# share of the coordinates that are clipped: 0.1 for SGD and 0.5 for Adam in Pan and Li 2023
FRACTIONS = (0.01, 0.1, 0.5)
# SGD's rates are for gradients of norm 1 at most; without that bound it needs smaller ones. Where clipping makes its
# steps small it needs larger ones: fivefold at 0.1 in Pan and Li 2023
BARE = 0.25
SHARP_AT = (100, 200, 400)  # steps: Pan and Li's sign is not there before about step 100
GROWTH = {0.01: 0.5, 0.1: 1.0, 0.5: 4.0}
# Adam's second moment sees the gradient whole, as in Pan and Li 2023; the others have no second moment
OPTIMIZERS: dict[str, tuple[OptimizerConfig, Of]] = {
    "sgd": (SGD(), "gradient"),
    "adam": (Adam(), "momentum"),
    "lion": (Lion(), "gradient"),
    "signum": (Signum(), "gradient"),
}


def arm(optimizer: OptimizerConfig, clip: float | None = None, growth: float = 1.0) -> tuple[Entry, ...]:
    return arm_of(optimizer, tuple(rate * growth for rate in optimizer.rates), clip)


@studies.register("clipping")
def clipping() -> Study:
    """How far does clipping the largest coordinates bring SGD towards Adam, and does it help where steps adapt already?

    Each optimizer bare, with a bound of 1 on the global norm, and with a share of its coordinates clipped. Sign descent
    has one arm, since no clipping changes a sign: it is what coordinate clipping comes to when all are clipped.
    Gains are over AdamW, as in the other studies of optimizers. The sharpness that clipping takes from
    updates is measured along the best runs of bare SGD and Adam, with the same shares of coordinates.
    """
    arms = {"adamw": arm(AdamW()), "sign": arm(Sign())}
    for name, (optimizer, of) in OPTIMIZERS.items():
        bare = BARE if name == "sgd" else 1.0
        arms |= {name: arm(optimizer, growth=bare), f"{name}_norm": arm(optimizer, clip=1.0)}
        for fraction in FRACTIONS:
            growth = GROWTH[fraction] if name == "sgd" else 1.0
            arms[f"{name}_{fraction}"] = arm(clipped(optimizer, fraction, of), growth=growth)
    return Study(
        name="clipping",
        question=question(clipping),
        baseline="adamw",
        arms=arms,
        sweep=Sweep(extensions=3, seeds=3, seeds_up_to=1e11),
        probes=tuple(
            Probing(
                probe=Sharpness(optimizers=tuple(OPTIMIZERS), clip=fraction, batches=4),
                at=SHARP_AT,
                arms=("sgd", "adam"),
                seeds=3,
            )
            for fraction in FRACTIONS
        ),
    )

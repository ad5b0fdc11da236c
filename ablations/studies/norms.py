"""Steepest descent with a norm for each role, swapped one role at a time: which role cares about its geometry?"""

from __future__ import annotations

import math

from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.norms import NormName
from algoprogress.ablations.optimizers.roles import Role
from algoprogress.ablations.optimizers.steepest import Geometry, SteepestDescent
from algoprogress.ablations.studies.optimizer_swap import DATA, LADDER, entries, model
from algoprogress.ablations.study import Entry, Study, Sweep, question, studies

SWAPS: dict[Role, tuple[NormName, ...]] = {
    "linear": ("spectral", "sign", "row", "column", "frobenius"),
    "embedding": ("sign", "rms_to_rms", "frobenius"),
    "head": ("sign", "rms_to_rms", "frobenius"),
    "vector": ("sign",),
}
FACTORS = (0.5, 1.0, 2.0)  # on one role's radius, beside the rate that all roles share
BUDGETS = (1e11, 3e11)


def entry_size(norm: NormName, out: int, in_: int) -> float:
    """Root mean square entry of a unit step under a norm, of a gradient of full rank without a zero row or column.

    Of U V^T, for one, the squares of the entries add up to the rank.
    """
    squares = {
        "sign": out * in_,
        "scaled_sign": out / in_,
        "frobenius": 1,
        "rms": out * in_,
        "column": in_,
        "row": out,
        "l1_to_rms": out * in_,
        "rms_to_linf": out / in_,
        "spectral": min(out, in_),
        "rms_to_rms": min(out, in_) * out / in_,
    }
    return math.sqrt(squares[norm] / (out * in_))


def swapped(role: Role, norm: NormName, factor: float, width: int) -> SteepestDescent:
    """All norms as they are but for one role, whose unit steps have entries as large as before, times a factor."""
    out, in_ = {
        "linear": (width, width),
        "embedding": (width, DATA.vocab_size),
        "head": (DATA.vocab_size, width),
        "vector": (width, 1),
    }[role]
    before: Geometry = getattr(SteepestDescent(), role)
    radius = factor * before.radius * entry_size(before.norm, out, in_) / entry_size(norm, out, in_)
    return SteepestDescent.model_validate({role: Geometry(norm=norm, radius=radius)})


def arm(*swaps: tuple[Role, NormName]) -> tuple[Entry, ...]:
    """Each swap at three radii of its role, each at three rates; equal recipes once."""
    found: dict[tuple[float, SteepestDescent], tuple[Entry, ...]] = {}
    for budget in BUDGETS:
        width, n_layers, batch_tokens = LADDER[budget]
        untied = model(width, n_layers, tied=False)  # so that embedding and head are two roles
        for role, norm in swaps:
            for factor in FACTORS:
                recipe = swapped(role, norm, factor, width)
                found[budget, recipe] = entries(recipe, budget, untied, batch_tokens, recipe.rates)
    return tuple(entry for part in found.values() for entry in part)


def adamw() -> tuple[Entry, ...]:
    """AdamW on the same models."""
    found: list[Entry] = []
    for budget in BUDGETS:
        width, n_layers, batch_tokens = LADDER[budget]
        untied = model(width, n_layers, tied=False)
        found.extend(entries(AdamW(), budget, untied, batch_tokens, AdamW().rates))
    return tuple(found)


@studies.register("norms")
def norms() -> Study:
    """Which role of a tensor gains from which norm, when the norms of all other roles stay as they are?

    Gains are over AdamW. The arm `unswapped` is tuned over the radius of each role in turn, and so over no less than
    any arm with a swap: hold them against it.
    """
    default = SteepestDescent()
    unswapped: list[tuple[Role, NormName]] = [(role, getattr(default, role).norm) for role in SWAPS]
    arms = {"adamw": adamw(), "unswapped": arm(*unswapped)}
    arms |= {f"{role}_{norm}": arm((role, norm)) for role, names in SWAPS.items() for norm in names}
    return Study(
        name="norms",
        question=question(norms),
        baseline="adamw",
        arms=arms,
        sweep=Sweep(extensions=2, seeds=3, seeds_up_to=1e11),
    )

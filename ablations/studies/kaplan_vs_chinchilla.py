"""How should compute be split into size and data?  isoFLOP grids from one protocol to another, and two rules of growth.

The grids take the way of Porian et al. 2024 from the protocol of Kaplan et al. 2020 to a tuned one, a change at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from algoprogress.ablations.allocation import Chinchilla
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.ladder import Sized, nearest, recipe, sweep, transformer, with_budget
from algoprogress.ablations.ladder import main as main_of
from algoprogress.ablations.presets import DEFAULT, Preset, preset_named, study_name
from algoprogress.ablations.schedules import Constant
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.ablations.study import Entry, Study, question, studies
from algoprogress.ablations.tuning import Tuning

HEAD_DIM = 8  # sizes in steps of 8 in width, so that a minimum is found between near neighbours
WIDTHS = tuple(range(16, 2049, HEAD_DIM))
GRID_WIDTHS = (8, *WIDTHS)  # so that at the smallest budget there is a size below the best
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the size with 20 tokens per parameter
# Kaplan et al. 2020 warmed up over a number of steps that was the same for all sizes, too long for short runs (Porian
# et al. 2024): 3,000 of their larger batches. Ours is as large a part of the runs at the middle of the ladder: a fifth.
WARMUP_STEPS = 200
GRID_SEEDS = 1  # the noise of an isoFLOP curve is had from how its points scatter about it
LONGEST_WARMUP = 0.9  # of a run
# Exponents of N in C of the two papers. Both are asked of all parameters here: Kaplan et al. left out embeddings, which
# are most of a small model, and without them the two rules would ask for the same models at this scale.
KAPLAN, CHINCHILLA = 0.73, 0.5


# Exponents of N in C: of the recipes of Porian et al. 2024, each one change further, and of the two papers
PORIAN = "Porian et al. 2024, figure 1"
COUNTED_AS_KAPLAN = {"by": "Kaplan et al. 2020", "published": KAPLAN, "porian": 0.835, "porian_low": 0.824}
COUNTED_AS_KAPLAN |= {"porian_high": 0.846, "source": PORIAN}
ISOFLOP: dict[str, dict[str, Any]] = {
    "grid_kaplan": {"protocol": "long warm-up, no decay, one rate", "6n": COUNTED_AS_KAPLAN, "standard":
        {"porian": 0.706, "porian_low": 0.691, "porian_high": 0.717, "source": PORIAN}},
    "grid_warmup": {"protocol": "+ warm-up as a share of the run", "standard":
        {"porian": 0.602, "porian_low": 0.591, "porian_high": 0.617, "source": PORIAN}},
    "grid_decay": {"protocol": "+ cosine decay", "standard":
        {"porian": 0.571, "porian_low": 0.560, "porian_high": 0.589, "source": PORIAN}},
    "grid_tuned": {"protocol": "+ a rate for each size", "standard":
        {"by": "Hoffmann et al. 2022", "published": CHINCHILLA, "porian": 0.497, "porian_low": 0.491,
         "porian_high": 0.505, "source": f"{PORIAN}, without decay"}},
}  # fmt: skip

Protocol = Callable[[Preset, Transformer, float], RunSpec]


def model(width: int) -> Transformer:
    return transformer(width, head_dim=HEAD_DIM)


def of_size(preset: Preset, n_params_total: float, widths: tuple[int, ...] = WIDTHS) -> Transformer:
    """The model nearest in log to a number of parameters, embeddings among them."""
    compute = 6 * 20 * n_params_total**2  # of 20 tokens per parameter
    return model(nearest(compute, model, widths, Data(tokenizer=preset.tokenizer).vocab_size))


def growing(preset: Preset, exponent: float) -> Sized:
    """N = N_0 (C / C_0)^exponent from the smallest budget C_0; there it is that of 20 tokens per parameter."""
    smallest = preset.budgets[0]
    first = Chinchilla().ideal_n_params(smallest)

    def at(compute: float) -> RunSpec:
        return recipe(of_size(preset, first * (compute / smallest) ** exponent), preset, compute)

    return at


def sizes(preset: Preset, compute: float) -> list[Transformer]:
    ideal = Chinchilla().ideal_n_params(compute)
    return list(dict.fromkeys(of_size(preset, share * ideal, GRID_WIDTHS) for share in SHARES))


def tuned(preset: Preset, architecture: Transformer, compute: float) -> RunSpec:
    """Warm-up and decay as shares of the run."""
    return recipe(architecture, preset, compute)


def undecayed(preset: Preset, architecture: Transformer, compute: float) -> RunSpec:
    """Warm-up as a share of the run, and no decay."""
    return recipe(architecture, preset, compute, schedule=Constant())


def kaplan(preset: Preset, architecture: Transformer, compute: float) -> RunSpec:
    """A warm-up of so many steps, and no decay within the run."""
    spec = with_budget(recipe(architecture, preset, compute), compute)
    return spec.model_copy(update={"schedule": Constant(warmup=min(LONGEST_WARMUP, WARMUP_STEPS / spec.steps))})


def of_grid(preset: Preset) -> tuple[float, ...]:
    """The three largest budgets: at small ones no model may be smaller than the best."""
    return preset.budgets[-3:]


def sized(preset: Preset, protocol: Protocol, architecture: Transformer) -> Sized:
    return lambda compute: protocol(preset, architecture, compute)


def grid(preset: Preset, protocol: Protocol) -> tuple[Entry, ...]:
    return tuple(
        entry
        for compute in of_grid(preset)
        for architecture in sizes(preset, compute)
        for entry in main_of(sized(preset, protocol, architecture), [compute], GRID_SEEDS)
    )


@studies.register("kaplan_vs_chinchilla")
def kaplan_vs_chinchilla(preset: str = DEFAULT) -> Study:
    """Does the best size grow as C^0.73 or as C^0.5, how much of that is protocol, and what does the right rule save?

    `grid_kaplan`, `_warmup`, `_decay` and `_tuned` are isoFLOP grids, each one change of protocol after the one before;
    `kaplan` and `chinchilla` grow by the two rules from one model. Rates: for each size by its law, but one for all
    sizes in the grids before `grid_tuned`.
    """
    at = preset_named(preset)
    first = of_grid(at)[0]
    middle = of_size(at, Chinchilla().ideal_n_params(first))
    rules = {"kaplan": growing(at, KAPLAN), "chinchilla": growing(at, CHINCHILLA)}
    protocols: dict[str, Protocol] = {"grid_kaplan": kaplan, "grid_warmup": undecayed, "grid_decay": tuned}
    arms = {name: sweep(rule, at.tuned) for name, rule in rules.items()}
    arms |= {name: sweep(sized(at, protocol, middle), [first]) for name, protocol in protocols.items()}
    arms["grid_tuned"] = tuple(e for size in sizes(at, first) for e in sweep(sized(at, tuned, size), [first]))
    mains = {name: main_of(rule, at.budgets, at.seeds) for name, rule in rules.items()}
    mains |= {name: grid(at, protocol) for name, protocol in (protocols | {"grid_tuned": tuned}).items()}
    return Study(
        name=study_name("kaplan_vs_chinchilla", at),
        question=question(kaplan_vs_chinchilla),
        baseline="kaplan",
        arms=arms,
        tuning=Tuning(),
        main=mains,
        against={"grid_warmup": "grid_kaplan", "grid_decay": "grid_warmup", "grid_tuned": "grid_kaplan"},
        innovations={arm: {"isoflop": facts} for arm, facts in ISOFLOP.items()},
    )

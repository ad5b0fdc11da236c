"""How should compute be split into size and data?  isoFLOP grids under two protocols, and the two rules of growth."""

from __future__ import annotations

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
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of the size with 20 tokens per parameter
# Kaplan et al. 2020 warmed up over a number of steps that was the same for all sizes, too long for short runs (Porian
# et al. 2024): 3,000 of their larger batches. Ours is as large a part of the runs at the middle of the ladder: a fifth.
WARMUP_STEPS = 200
GRID_SEEDS = 1  # the noise of an isoFLOP curve is had from how its points scatter about it
LONGEST_WARMUP = 0.9  # of a run
# Exponents of N in C of the two papers. Both are asked of all parameters here: Kaplan et al. left out embeddings, which
# are most of a small model, and without them the two rules would ask for the same models at this scale.
KAPLAN, CHINCHILLA = 0.73, 0.5


def model(width: int) -> Transformer:
    return transformer(width, head_dim=HEAD_DIM)


def of_size(preset: Preset, n_params_total: float) -> Transformer:
    """The model nearest in log to a number of parameters, embeddings among them."""
    compute = 6 * 20 * n_params_total**2  # of 20 tokens per parameter
    return model(nearest(compute, model, WIDTHS, Data(tokenizer=preset.tokenizer).vocab_size))


def growing(preset: Preset, exponent: float) -> Sized:
    """N = N_0 (C / C_0)^exponent from the smallest budget C_0; there it is that of 20 tokens per parameter."""
    smallest = preset.budgets[0]
    first = Chinchilla().ideal_n_params(smallest)

    def at(compute: float) -> RunSpec:
        return recipe(of_size(preset, first * (compute / smallest) ** exponent), preset, compute)

    return at


def sizes(preset: Preset, compute: float) -> list[Transformer]:
    ideal = Chinchilla().ideal_n_params(compute)
    return list(dict.fromkeys(of_size(preset, share * ideal) for share in SHARES))


def tuned(preset: Preset, architecture: Transformer, compute: float) -> RunSpec:
    """Warm-up and decay as shares of the run."""
    return recipe(architecture, preset, compute)


def kaplan(preset: Preset, architecture: Transformer, compute: float) -> RunSpec:
    """A warm-up of so many steps, and no decay within the run."""
    spec = with_budget(recipe(architecture, preset, compute), compute)
    return spec.model_copy(update={"schedule": Constant(warmup=min(LONGEST_WARMUP, WARMUP_STEPS / spec.steps))})


def of_grid(preset: Preset) -> tuple[float, ...]:
    """The three largest budgets: at small ones no model may be smaller than the best."""
    return preset.budgets[-3:]


def grid(preset: Preset, protocol: object) -> tuple[Entry, ...]:
    return tuple(
        entry
        for compute in of_grid(preset)
        for architecture in sizes(preset, compute)
        for entry in main_of(lambda c, a=architecture: protocol(preset, a, c), [compute], GRID_SEEDS)  # type: ignore[misc, operator]
    )


@studies.register("kaplan_vs_chinchilla")
def kaplan_vs_chinchilla(preset: str = DEFAULT) -> Study:
    """Does the best size grow as C^0.73 or as C^0.5, how much of that is protocol, and what does the right rule save?

    `grid_tuned` and `grid_kaplan` are isoFLOP grids; `kaplan` and `chinchilla` grow by the two rules from one model.
    Rates: for each size by its law, but one for all sizes in `grid_kaplan`.
    """
    at = preset_named(preset)
    first = of_grid(at)[0]
    middle = of_size(at, Chinchilla().ideal_n_params(first))
    rules = {"kaplan": growing(at, KAPLAN), "chinchilla": growing(at, CHINCHILLA)}
    arms = {name: sweep(sized, at.tuned) for name, sized in rules.items()}
    arms["grid_tuned"] = tuple(
        entry
        for size in sizes(at, first)
        for entry in sweep(lambda c, a=size: tuned(at, a, c), [first])  # type: ignore[misc]
    )
    arms["grid_kaplan"] = sweep(lambda compute: kaplan(at, middle, compute), [first])
    mains = {name: main_of(sized, at.budgets, at.seeds) for name, sized in rules.items()}
    mains |= {"grid_tuned": grid(at, tuned), "grid_kaplan": grid(at, kaplan)}
    return Study(
        name=study_name("kaplan_vs_chinchilla", at),
        question=question(kaplan_vs_chinchilla),
        baseline="kaplan",
        arms=arms,
        tuning=Tuning(),
        main=mains,
    )

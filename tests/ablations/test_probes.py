"""What a study measures of its runs: which of them, at which steps."""

import math

import pytest

from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.best import best_runs, probed
from algoprogress.ablations.probes import Probing, Sharpness, Spectra
from algoprogress.ablations.refine import refine
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.ablations.study import Entry, Study, Sweep

BATCH = 256
BEST = 0.02


def entry(rate: float, steps: int = 10) -> Entry:
    data = Data(context=32, corpus_sha256="ab" * 32)
    spec = RunSpec(architecture=LSTM(width=8), tokens=steps * BATCH, batch_tokens=BATCH, learning_rate=rate, data=data)
    return Entry(spec=spec, compute_budget=spec.compute)


def study(**fields) -> Study:
    arms = {"short": [entry(r, n) for n in (10, 20) for r in (0.01, 0.02, 0.04)], "other": [entry(r) for r in (0.1, 1)]}
    return Study(name="s", question="?", baseline="short", arms=arms, sweep=Sweep(seeds=3, extensions=0), **fields)


def known(study: Study) -> dict[str, float]:
    losses: dict[str, float] = {}
    while losses.keys() < (now := refine(study, losses)).specs().keys():
        # a further seed of the best is worse by luck than another rate's first run
        losses = {i: abs(math.log(s.learning_rate / BEST)) + 5 * s.seed for i, s in now.specs().items()}
    return losses


def test_the_best_configuration_of_each_budget_is_that_of_the_first_seed_with_every_seed():
    grid = study()
    losses = known(grid)
    best = best_runs(refine(grid, losses), losses)
    assert [(e.spec.learning_rate, e.spec.steps, e.spec.seed) for e in best["short"]] == [
        (BEST, n, seed) for n in (10, 20) for seed in (0, 1, 2)
    ]


def test_diverged_and_missing_runs_are_no_ones_best():
    grid = study()
    losses = dict.fromkeys(list(grid.specs())[:2], math.inf)
    assert best_runs(grid, losses) == {"short": [], "other": []}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {("short", 10): 3, ("short", 20): 3, ("other", 10): 3}),
        ({"arms": ("short",), "seeds": 2}, {("short", 10): 2, ("short", 20): 2}),
        ({"longest": True}, {("short", 20): 3, ("other", 10): 3}),
    ],
)
def test_a_study_says_which_of_its_runs_are_measured(asked, found):
    grid = study(probes=(Probing(probe=Spectra(), at=(0, "final"), **asked),))
    losses = known(grid)
    counts: dict[tuple[str, int], int] = {}
    for arm, one, _ in probed(refine(grid, losses), losses):
        counts[arm, one.spec.steps] = counts.get((arm, one.spec.steps), 0) + 1
    assert counts == found


def test_steps_are_in_order_and_sharpness_ends_where_the_last_gradient_is():
    assert Probing(probe=Spectra(), at=("final", 0, 5, 5)).steps(10) == (0, 5, 10)
    of_sharpness = Probing(probe=Sharpness(optimizers=("sgd",)), at=(0, "final"))
    assert of_sharpness.steps(10) == (0, 9)
    with pytest.raises(ValueError, match="step 11 is asked for, and the last of this run that can be measured is 10"):
        Probing(probe=Spectra(), at=(11,)).steps(10)


def test_what_cannot_be_measured_is_refused_when_it_is_written():
    with pytest.raises(ValueError, match="unknown optimizer 'adm'"):
        Sharpness(optimizers=("sgd", "adm"))
    with pytest.raises(ValueError, match="at least one"):
        Sharpness(optimizers=())
    with pytest.raises(ValueError, match="long is no arm"):
        study(probes=(Probing(probe=Spectra(), at=(0,), arms=("long",)),))


def test_probes_are_stored_with_the_study_and_change_no_run():
    bare, measured = study(), study(probes=(Probing(probe=Spectra(), at=(0,)),))
    assert "probes" not in bare.stored()
    assert measured.stored()["probes"][0]["probe"]["kind"] == "spectra"
    assert bare.specs().keys() == measured.specs().keys()

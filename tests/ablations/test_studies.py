"""Every built-in study can be planned: it asks a question, names its baseline, and costs what its ladder says."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from algoprogress.ablations.allocation import isoflop
from algoprogress.ablations.refine import refine
from algoprogress.ablations.spec import RunSpec
from algoprogress.ablations.study import Entry, Study, question, studies

every = pytest.mark.parametrize("name", list(studies))


def resolved(name: str) -> Study:
    """The study with its corpus given a content, as planning does."""

    def pinned(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        def pin(spec: RunSpec) -> RunSpec:
            return spec.model_copy(update={"data": spec.data.model_copy(update={"corpus_sha256": "ab" * 32})})

        return tuple(e.model_copy(update={"spec": pin(e.spec)}) for e in entries)

    study = studies[name]()
    arms = {arm: pinned(entries) for arm, entries in study.arms.items()}
    main = {arm: pinned(entries) for arm, entries in study.main.items()}
    return study.model_copy(update={"arms": arms, "main": main})


def whole(study: Study) -> dict[str, tuple[Entry, ...]]:
    """Each arm's sweep and what waits for it."""
    return {arm: (*entries, *study.main.get(arm, ())) for arm, entries in study.arms.items()}


@every
def test_a_study_has_the_name_it_is_registered_under_and_asks_a_question(name):
    study = studies[name]()
    assert study.name == name
    assert study.question == question(studies[name])
    assert "?" in study.question
    assert study.baseline in study.arms
    assert len(study.arms) > 1


@every
def test_a_study_is_built_the_same_each_time(name):
    assert studies[name]() == studies[name]()
    assert list(resolved(name).specs()) == list(resolved(name).specs())


@every
def test_no_arm_trains_a_run_twice(name):
    for entries in resolved(name).arms.values():
        assert len({e.spec.run_id for e in entries}) == len(entries)


@every
def test_true_compute_is_near_the_budget(name):
    for arm, entry in ((arm, entry) for arm, entries in whole(studies[name]()).items() for entry in entries):
        if entry.compute_budget is not None:
            assert entry.spec.compute == pytest.approx(entry.compute_budget, rel=0.1), arm


@every
def test_the_baseline_has_the_budgets_of_every_arm(name):
    # a gain at a budget that the baseline does not have would be an extrapolation
    study = studies[name]()
    budgets = {arm: {e.compute_budget for e in entries} for arm, entries in whole(study).items()}
    # where each arm is compared with one of its own, as models of several tasks are, those that are compared with count
    compared = study.against if study.probes and study.against else dict.fromkeys(budgets, study.baseline)
    assert all(budgets[arm] <= budgets[other] for arm, other in compared.items())


@every
def test_tokens_are_those_of_the_isoflop_row(name):
    for e in (entry for entries in whole(studies[name]()).values() for entry in entries):
        if e.compute_budget is not None:
            data = e.spec.data
            (row,) = isoflop(
                e.compute_budget,
                [e.spec.architecture],
                data.vocab_size,
                data.context,
                e.spec.batch_tokens,
                e.spec.reparameterization,
            )
            assert e.spec.tokens == row.tokens


@every
def test_every_run_is_validated_on_the_same_tokens(name):
    specs = [e.spec for entries in whole(studies[name]()).values() for e in entries]
    assert len({s.evaluation.tokens for s in specs}) == 1
    for images in (False, True):
        assert len({(s.data.corpus, s.data.tokenizer) for s in specs if s.data.images == images}) <= 1


@every
def test_what_is_stored_is_json(name):
    stored = resolved(name).stored()
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert set(stored["differences"]) == set(stored["arms"]) - {stored["baseline"]}
    assert all(stored["differences"].values()), "every arm differs from the baseline in something"


@every
def test_every_spec_survives_a_round_trip(name):
    for run_id, spec in resolved(name).specs().items():
        assert RunSpec.model_validate_json(spec.model_dump_json()).run_id == run_id


@every
def test_a_sweep_ends_when_every_loss_is_known(name):
    study, known = resolved(name), dict[str, float]()
    for _ in range(20):
        now = refine(study, known)
        if known.keys() >= now.specs().keys():
            break
        # lowest at a rate that lies beyond what most sweeps begin with
        known |= {run_id: math.log(spec.learning_rate / 0.02) ** 2 for run_id, spec in now.specs().items()}
    assert known.keys() == now.specs().keys()
    assert now.main == {}
    assert len(now.specs()) <= 5 * (len(study.specs()) + sum(map(len, study.main.values())))


@every
def test_every_model_starts_near_guessing(name):
    # wider than the 5 % of the presets: a study may choose a larger start for small models
    for spec in {
        repr(e.spec.architecture): e.spec for entries in whole(studies[name]()).values() for e in entries
    }.values():
        vocab_size, context = spec.data.vocab_size, spec.data.context
        torch.manual_seed(0)
        model = spec.architecture.build(vocab_size, context)
        generator = torch.Generator().manual_seed(1)
        n_read, n_choices = (256, vocab_size) if spec.data.images else (vocab_size, vocab_size)
        x = torch.randint(n_read, (4, context), generator=generator)
        with torch.no_grad():
            logits = model(x)[0].flatten(0, 1)
        loss = F.cross_entropy(logits, torch.randint(n_choices, (len(logits),), generator=generator))
        rel = 0.25 if spec.data.images else 0.1  # logits of models of images begin at order one, as torch has them
        assert loss.item() == pytest.approx(math.log(vocab_size), rel=rel), spec.architecture

"""A study says what differs, trains equal specs once, and refuses what would not answer its question."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.spec import Data, RunSpec
from algoprogress.ablations.study import Entry, Study, question

DATA = Data(corpus_sha256="ab" * 32)


def entry(budget: float | None = None, **fields: Any) -> Entry:
    spec = RunSpec.model_validate(
        {"architecture": LSTM(width=32), "tokens": 8192, "learning_rate": 0.01, "data": DATA} | fields
    )
    return Entry(spec=spec, compute_budget=budget)


def study(**changes: Any) -> Study:
    arms = {
        "old": (entry(1e9, learning_rate=0.01), entry(1e10, learning_rate=0.02)),
        "new": (entry(1e9, learning_rate=0.02, optimizer=Adam(beta1=0.8)), entry(1e10, learning_rate=0.01)),
    }
    return Study(**({"name": "mine", "question": "Which?", "baseline": "old", "arms": arms} | changes))


def test_the_differences_are_exactly_the_fields_that_differ():
    # the learning rates are the same set, in another order: no difference
    assert study().differences() == {
        "new": {
            "optimizer.name": {"baseline": ["adamw"], "arm": ["adam", "adamw"]},
            "optimizer.beta1": {"baseline": [0.9], "arm": [0.8, 0.9]},
            "optimizer.weight_decay": {"baseline": [0.01], "arm": [0.0, 0.01]},
        }
    }


def test_a_field_that_one_architecture_lacks_has_no_values_there():
    found = study(arms={"old": (entry(),), "new": (entry(architecture=Transformer(width=32)),)}).differences()["new"]
    assert found["architecture.name"] == {"baseline": ["lstm"], "arm": ["transformer"]}
    assert found["architecture.forget_bias"] == {"baseline": [1.0], "arm": []}
    assert found["architecture.norm"] == {"baseline": [], "arm": ["rmsnorm"]}
    assert "architecture.width" not in found
    assert all(field.startswith("architecture.") for field in found)


def test_equal_arms_differ_in_nothing_and_the_baseline_is_not_compared():
    assert study(arms={"old": (entry(),), "new": (entry(),)}).differences() == {"new": {}}


def test_equal_specs_train_once_in_whatever_arm():
    shared = entry(1e9, learning_rate=0.03)
    both = study(arms={"old": (shared, entry(1e9)), "new": (shared, entry(1e9, seed=1))})
    assert len(both.specs()) == 3
    assert [arm for arm, _ in both.entries()] == ["old", "old", "new", "new"]
    assert all(run_id == spec.run_id for run_id, spec in both.specs().items())
    elsewhere = study(name="another", arms={"old": (shared,), "new": (shared,)})
    assert elsewhere.specs().keys() < both.specs().keys()


def test_the_baseline_must_be_an_arm():
    with pytest.raises(ValidationError, match="the baseline 'odl' is not an arm; arms: old, new"):
        study(baseline="odl")


def test_an_arm_without_runs_is_refused():
    with pytest.raises(ValidationError, match="the arm 'new' has no runs"):
        study(arms={"old": (entry(),), "new": ()})


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "a\n", "-flag", "ä", "x" * 101, "a\\b", "a:b"])
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(ValidationError, match="a study's name is letters, digits"):
        study(name=name)


@pytest.mark.parametrize("name", ["demo", "2017_vs-2023.v2", "x" * 100])
def test_a_name_that_is_a_file_name_is_kept(name):
    assert study(name=name).name == name


@pytest.mark.parametrize("budget", [0, -1e9, float("nan"), float("inf"), "much"])
def test_a_budget_is_a_positive_number(budget):
    with pytest.raises(ValidationError, match="compute_budget"):
        entry(budget)


def test_an_unknown_arm_lists_the_known_ones():
    assert study().arm("new") == study().arms["new"]
    with pytest.raises(ValueError, match="unknown arm 'newer' in study 'mine'; arms: old, new"):
        study().arm("newer")


def test_what_is_stored_is_json_that_names_runs_and_says_how_arms_differ():
    stored = study().stored()
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert set(stored) == {"name", "question", "baseline", "arms", "differences"}
    assert stored["arms"]["old"] == [
        {"run_id": e.spec.run_id, "compute_budget": e.compute_budget, "compute": e.spec.compute}
        for e in study().arms["old"]
    ]


def test_a_study_is_frozen_and_refuses_unknown_keys():
    with pytest.raises(ValidationError):
        study().name = "other"
    with pytest.raises(ValidationError, match="arm_s"):
        study(arm_s={})


def test_a_question_is_the_first_paragraph_of_a_docstring():
    def asks() -> Study:
        """Is it
        so?

        Some detail.
        """
        raise NotImplementedError

    assert question(asks) == "Is it so?"
    assert question(lambda: study()) == ""

"""The studies of optimizers and of POET, in small: each tunes every arm's rate and gives its gains over AdamW."""

import pytest

from algoprogress.ablations.study import Study, at_preset
from algoprogress.analysis import compute_equivalent_gain
from algoprogress.pipeline.executors.inline import InlineExecutor
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.submit import submit
from algoprogress.results import Store

SHARE = 0.01  # of the tokens of each run


def in_small(name: str, corpus: str) -> Study:
    def small(entry):
        spec = entry.spec
        tokens = max(int(SHARE * spec.tokens) // spec.batch_tokens, 4) * spec.batch_tokens
        data = spec.data.model_copy(update={"corpus": corpus})
        evaluation = spec.evaluation.model_copy(update={"tokens": 512})
        spec = spec.model_copy(update={"tokens": tokens, "data": data, "evaluation": evaluation})
        return entry.model_copy(update={"spec": spec, "compute_budget": SHARE * entry.compute_budget})

    study = at_preset(name, None)
    return resolve(study.model_copy(update={"arms": {a: tuple(map(small, e)) for a, e in study.arms.items()}}))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["norms", "clipping", "poet"])
def test_every_arm_has_a_tuned_rate_and_a_gain_over_adamw(name, text_file, tmp_path, _cache):
    study, store = in_small(name, str(text_file)), Store(tmp_path)
    assert not submit(study, store, InlineExecutor, Progress()).failed
    runs = store.runs(name, status=None)
    assert (runs.groupby(["arm", "compute_budget"])["learning_rate"].nunique() >= 3).all()
    gains = compute_equivalent_gain(runs, "adamw", method="interpolated", n_resamples=50)
    assert study.baseline == "adamw"
    assert set(gains["arm"]) == set(study.arms) - {"adamw"}
    swept = runs[runs["status"] == "done"].groupby("arm")["compute_budget"].nunique()
    assert gains.groupby("arm").size().equals(swept.drop("adamw").rename(None))
    assert (gains["ceg"] > 0).all()
    assert (gains["ceg_low"] <= gains["ceg_high"]).all()

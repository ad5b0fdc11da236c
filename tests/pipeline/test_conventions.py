"""Counting the optimizer adds what the run's spec says to each compute of its row, and needs the run's spec."""

import pandas as pd
import pytest

from algoprogress.ablations.spec import RunSpec
from algoprogress.pipeline.conventions import COMPUTES, with_optimizer

NAMED = dict(zip(COMPUTES, ("standard", "6n", "6n_total"), strict=True))
SPECS = [
    {"optimizer": "sgd"},
    {"optimizer": "adamw"},
    {"optimizer": "muon"},
    {"optimizer": "adamw", "reparameterization": {"name": "poet_bs", "block": 8}},
]


class Records:
    """The one method of a store that is asked for."""

    def __init__(self, specs: dict[str, RunSpec]) -> None:
        self.specs = specs

    def record(self, run_id: str) -> dict:
        return {"spec": self.specs[run_id].model_dump(mode="json")}


def test_the_optimizer_is_added_in_every_convention(make_spec):
    specs = {spec.run_id: spec for spec in (make_spec(**fields) for fields in SPECS)}
    rows = [
        {"run_id": run_id, "steps": spec.steps, **{name: spec.flop(convention) for name, convention in NAMED.items()}}
        for run_id, spec in specs.items()
    ]
    runs = pd.DataFrame([*rows, rows[0]])  # a run of two arms
    found = with_optimizer(runs, Records(specs))
    for row in found.to_dict("records"):
        spec = specs[row["run_id"]]
        for name, convention in NAMED.items():
            assert row[name] == pytest.approx(spec.flop(convention, optimizer=True))
    added = (found["compute"] - runs["compute"]).tolist()
    assert 0 < added[0] < added[1] < added[2]
    assert added[3] != added[1]  # of Q, and not of the weights
    assert added[4] == added[0]


def test_a_run_that_stopped_early_is_counted_as_far_as_it_came(make_spec):
    spec = make_spec(optimizer="muon")
    runs = pd.DataFrame([{"run_id": spec.run_id, "steps": 3, **dict.fromkeys(COMPUTES, 0.0)}])
    (row,) = with_optimizer(runs, Records({spec.run_id: spec})).to_dict("records")
    assert row["compute"] == pytest.approx(3 * spec.optimizer_flop_per_step)
    assert row["compute"] > 0


def test_a_file_has_no_specs_to_count_by(cli, tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text("arm,compute,loss\na,1e9,3\nb,1e9,3\n")
    code, _, err = cli("gains", file, "--baseline", "a", "--count-optimizer")
    assert code == 2
    assert "--count-optimizer" in err

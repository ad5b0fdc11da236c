"""The tables of a study's probes, from a store whose runs and probes are made up: they say what was put in."""

import json

import numpy as np
import pytest

from algoprogress.analysis.curvature.frames import rows_of
from algoprogress.analysis.curvature.quadrature import Quadrature
from algoprogress.results import Store

MODELS = {"cnn": 0.0, "mlp": 0.5, "vit": 1.5, "gpt": 3.0}  # ln gain of compute of Adam; the spread of its blocks too
STEPS = 50


def loss(compute: float) -> float:
    return 20 * compute**-0.1


def probe(run_id: str, step: int, kind: str, **how) -> dict:
    spec = {"architecture": {"name": "transformer"}, "optimizer": {"name": "adam"}, "seed": 0}
    how = {"batch_norm": "eval", **how}
    return {"kind": kind, "run_id": run_id, "step": step, "how": how, "spec": spec, "loss": 3.0, "seconds": 1.0}


@pytest.fixture
def folder(tmp_path, make_run):
    store, arms = Store(tmp_path / "store"), {}
    for model, log_gain in MODELS.items():
        for optimizer in ("sgd", "adam"):
            entries = arms[f"{model}_{optimizer}"] = []
            for budget in (1e9, 1e10, 1e11):
                for seed in range(2):
                    saved = log_gain if optimizer == "adam" else 0.0
                    record, curve = make_run(
                        architecture={"name": model, "by": optimizer, "budget": budget}, seed=seed, steps=STEPS,
                        compute=budget, loss=loss(budget * np.exp(saved)) * (1 + 1e-4 * seed),
                    )  # fmt: skip
                    store.publish(record, curve)
                    entries.append({"run_id": record["run_id"], "compute_budget": budget})
            if optimizer == "adam":
                measure(store, entries[-2]["run_id"], log_gain)
    against = {f"{model}_adam": f"{model}_sgd" for model in MODELS}
    study = {"name": "made_up", "question": "?", "baseline": "cnn_sgd", "arms": arms, "differences": {}}
    store.save_study({**study, "against": against})
    return tmp_path / "store"


def measure(store: Store, run_id: str, spread: float) -> None:
    import pandas as pd

    for step, factor in ((0, 1.0), (STEPS, 2.0)):
        blocks = []
        for k, name in enumerate("abc"):
            largest = 10.0 ** (k * spread * factor)
            blocks.append(rows_of(name, "q", Quadrature((np.array([0.0, largest]),), (np.array([0.5, 0.5]),), 4)))
        store.publish_probe(probe(run_id, step, "spectra"), pd.concat(blocks))
    numbers = {f"top_{share}%": 0.5 for share in ("0.1", "1", "10", "50")}
    rows = [
        {"update_of": name, "sharpness": s, "clipped": s / 4, **numbers, "loss_along": [1.0, 0.9]}
        for name, s in (("sgd", 2.0), ("adam", 0.5))
    ]
    for step in (10, 100):
        store.publish_probe(probe(run_id, step, "sharpness", clip=0.1), pd.DataFrame(rows))


def test_leads_stand_beside_heterogeneity_with_their_correlations(folder, cli, tmp_path):
    words = ["curvature", "lead", "made_up", "--store", folder, "--json", "--figure", tmp_path / "lead.png"]
    code, out, err = cli(*words)
    assert code == 0, err
    found = json.loads(out)
    table = {row["model"]: row for row in found["models"]}
    assert list(table) == list(MODELS)
    for model, log_gain in MODELS.items():
        assert table[model]["lead"] == pytest.approx(0.1 * log_gain, abs=1e-6)
        assert table[model]["log_spread"] == pytest.approx(log_gain)
    assert table["mlp"]["ceg"] == pytest.approx(np.exp(0.5), rel=0.1)
    of = {(row["x"], row["y"], row["method"]): row for row in found["correlations"]}
    assert of["log_spread", "lead", "pearson"]["estimate"] == pytest.approx(1.0)
    assert of["js_nats", "lead", "spearman"]["n"] == 4
    assert (tmp_path / "lead-js_nats.svg").exists()
    final = json.loads(cli(*words[:-2], "--at", "final")[1])["models"]
    assert final[-1]["log_spread"] == pytest.approx(6.0)


def test_heterogeneity_is_told_at_every_step(folder, cli):
    rows = json.loads(cli("curvature", "over-steps", "made_up", "--store", folder, "--json")[1])
    assert {(row["model"], row["step"]) for row in rows} == {(model, step) for model in MODELS for step in (0, STEPS)}


def test_sharpness_counts_from_the_step_that_is_asked_for(folder, cli, tmp_path):
    words = ["curvature", "ratios", "made_up", "--store", folder, "--json"]
    rows = json.loads(cli(*words, "--figure", tmp_path / "ratios")[1])
    plain = {row["update_of"]: row for row in rows if row["along"] == "gpt_adam" and not row["clipped"]}
    assert (plain["adam"]["median"], plain["adam"]["n"]) == (0.25, 1)
    assert json.loads(cli(*words, "--since", 0)[1])[0]["n"] == 2
    assert (tmp_path / "ratios-gpt_adam.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lead", "made_up", "--at", "100"], "--at is init or final, not '100'"),
        (["lead", "made_up", "--blocks", "some"], "--blocks is all or without_ends, not 'some'"),
        (["lead", "other"], "has no study 'other'"),
        (["ratios", "made_up", "--reference", "lion"], "there is no update of 'lion'"),
        (["over-steps", "made_up", "--sigma", "0"], "--sigma is the width of a kernel, a number above 0, not 0"),
        (["clipped", "made_up"], "has no arm such as sgd_0.1"),
    ],
)
def test_what_cannot_be_told_is_said(words, message, folder, cli):
    code, _, err = cli("curvature", *words, "--store", folder)
    assert code == 2
    assert message in err


def test_kernel_and_normalisation_are_the_users_to_choose(folder, cli):
    words = ["curvature", "over-steps", "made_up", "--store", folder, "--json"]

    def of_mlp(*options: str) -> dict:
        (row,) = (r for r in json.loads(cli(*words, *options)[1]) if (r["model"], r["step"]) == ("mlp", 0))
        return row

    assert of_mlp("--sigma", "50")["js_nats"] < 0.1 * of_mlp()["js_nats"]
    assert of_mlp("--normalised")["js_nats"] == pytest.approx(0, abs=1e-9)  # two nodes each: one shape
    assert of_mlp("--normalised")["log_spread"] == 0
    assert of_mlp()["log_spread"] == pytest.approx(0.5)


def test_what_somebody_measured_besides_is_not_of_the_study(folder, cli):
    """A study that says what it asks for counts that alone; blocks of two versions are not averaged."""
    store = Store(folder)
    study = store.study("made_up")
    how = {"batch_norm": "eval"}
    store.save_study({**study, "probes": [{"probe": {"kind": "spectra", **how}, "at": [0, "final"]}]})
    words = ["curvature", "over-steps", "made_up", "--store", folder, "--json"]
    before = json.loads(cli(*words)[1])
    (run_id, *_) = store.spectra("made_up")["run_id"].unique()
    other = rows_of("full", "q", Quadrature((np.array([0.0, 7.0]),), (np.array([0.5, 0.5]),), 4))
    store.publish_probe(probe(run_id, 0, "spectra", steps=99), other)
    assert json.loads(cli(*words)[1]) == before
    store.save_study(study)
    code, _, err = cli(*words)
    assert code == 2
    assert "heterogeneity compares blocks" in err or "was measured in" in err


def test_the_gap_that_clipping_closes_is_printed(folder, cli, make_run):
    store = Store(folder)
    study = store.study("made_up")
    bare = study["arms"]["gpt_sgd"][-2]
    record, curve = make_run(architecture={"name": "clipped"}, seed=9, compute=1e11, loss=loss(1e11 * np.exp(1.5)))
    store.publish(record, curve)
    arms = {**study["arms"], "gpt_sgd_0.1": [{"run_id": record["run_id"], "compute_budget": 1e11}]}
    store.save_study({**study, "arms": arms})
    numbers = {f"top_{share}%": 0.5 for share in ("0.1", "1", "10", "50")}
    rows = [{"update_of": "gpt_sgd", "sharpness": 2.0, "clipped": 0.5, **numbers, "loss_along": [1.0, 0.9]}]
    import pandas as pd

    store.publish_probe(probe(bare["run_id"], 100, "sharpness", clip=0.1), pd.DataFrame(rows))
    words = [
        "curvature",
        "clipped",
        "made_up",
        "--bare",
        "gpt_sgd",
        "--target",
        "gpt_adam",
        "--store",
        folder,
        "--json",
    ]
    code, out, err = cli(*words)
    assert code == 0, err
    (row,) = json.loads(out)
    assert 0 < row["gap_closed"] < 1
    assert (row["sharpness_removed"], row["n_places"]) == (0.75, 1)


def test_a_study_without_probes_says_how_to_measure_them(tmp_path, make_run, cli):
    store = Store(tmp_path / "store")
    record, curve = make_run()
    store.publish(record, curve)
    arms = {a: [{"run_id": record["run_id"], "compute_budget": 1e9}] for a in ("x_sgd", "x_adam")}
    study = {"name": "bare", "question": "?", "baseline": "x_sgd", "arms": arms, "differences": {}}
    store.save_study({**study, "against": {"x_adam": "x_sgd"}})
    for command in ("lead", "over-steps", "ratios"):
        code, _, err = cli("curvature", command, "bare", "--store", tmp_path / "store")
        assert code == 2
        assert "nothing was measured of the runs of bare yet" in err

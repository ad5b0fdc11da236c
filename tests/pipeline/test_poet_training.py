"""A reparameterized run through the trainer: the same, watched or not, interrupted or not."""

import numpy as np
import pytest
import torch

from algoprogress.ablations.reparameterizations import reparameterizations
from algoprogress.ablations.reparameterizations.poet import poet_layers
from algoprogress.pipeline import probe_poet
from algoprogress.pipeline.plan import _shape
from algoprogress.pipeline.probe_spectrum import by_step, rotations, watch, weights
from algoprogress.pipeline.trainer import build, train

FACTS = ("loss", "loss_se", "train_loss", "initial_loss", "compute", "tokens", "status")
POET = {
    "bs": {"name": "poet_bs", "merge_every": 6},
    "bs-slow": {"name": "poet_bs", "merge_every": 6, "rate": 0.5, "order": None},
    "fs": {"name": "poet_fs", "fraction": 0.25, "merge_every": 7},
}


def facts(run):
    return {key: run.record[key] for key in FACTS}


@pytest.mark.parametrize("name", POET)
@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    make_spec, tokens, killed_at_its_first_checkpoint, name, optimizer
):
    # merges fall before and after the interruption at step 16, and the clip is rising when it happens
    spec = make_spec(reparameterization=POET[name], optimizer=optimizer, dropout=0.1)
    whole = train(spec, tokens)
    path, _ = killed_at_its_first_checkpoint(spec, tokens)
    resumed = train(spec, tokens, checkpoint_path=path, checkpoint_seconds=1e9)
    assert facts(resumed) == facts(whole)
    assert resumed.curve.drop(columns="wall_seconds").equals(whole.curve.drop(columns="wall_seconds"))


@pytest.mark.parametrize("name", list(reparameterizations))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_reparameterized_run_learns_in_every_precision(make_spec, tokens, name, dtype):
    spec = make_spec(reparameterization=name, dtype=dtype)
    run = train(spec, tokens)
    assert run.record["status"] == "done"
    assert run.record["loss"] < 4.5 < run.record["initial_loss"]
    assert run.record["compute"] == spec.compute > make_spec(dtype=dtype).compute
    assert run.record["n_params"] == make_spec().n_params


def test_a_run_draws_its_shuffles_from_its_seed(make_spec):
    def first(seed: int) -> torch.Tensor:
        model, _ = build(make_spec(reparameterization="poet_bs", seed=seed), torch.device("cpu"))
        return next(iter(poet_layers(model).values())).shuffle_R.clone()

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))


@pytest.mark.parametrize("name", [None, *POET])
def test_a_watched_run_is_the_run(make_spec, tokens, name):
    spec = make_spec(reparameterization=POET.get(name))
    record, looks = watch(spec, tokens, every=20)
    assert record["loss"] == train(spec, tokens).record["loss"]
    assert sorted(looks.step.unique()) == [0, 20, 40]
    assert looks.svd_entropy.between(0, 1 + 1e-9).sum() == 3 * 7  # q, k, v, out, gate, up and down


def test_poet_keeps_the_spectrum_that_adamw_changes(make_spec, tokens):
    exact = {"name": "poet_bs", "merge_every": 6, "order": None}
    turned, plain = (by_step(watch(make_spec(reparameterization=r), tokens, 20)[1]).iloc[-1] for r in (exact, None))
    assert turned.spectrum_drift < 1e-5
    assert plain.spectrum_drift > 0.01


def test_rotations_are_seen_until_they_are_merged(make_spec, tokens):
    never = {"name": "poet_fs", "fraction": 1.0, "merge_every": 1000, "order": None}
    _, looks = watch(make_spec(reparameterization=never), tokens, every=10)
    means = by_step(looks)
    assert means.cosine.iloc[0] == pytest.approx(1)
    assert (means.cosine.diff().iloc[1:] < 0).all()
    assert means.orthogonality_error.max() < 1e-5
    _, looks = watch(make_spec(reparameterization=POET["bs"]), tokens, every=10)
    assert by_step(looks).cosine.notna().tolist() == [True, False, False, False, False]


def test_the_plan_measures_a_reparameterized_shape_of_run_on_its_own(make_spec):
    plain, turned = _shape(make_spec()), _shape(make_spec(reparameterization="poet_bs"))
    assert "reparameterization" not in plain  # what was measured before there was one stays known
    assert turned != plain


@pytest.mark.filterwarnings("ignore::algoprogress.ablations.reparameterizations.poet.SpectrumWarning")
def test_the_questions_of_the_probe_are_answered_and_drawn_on_any_corpus(make_spec, tokens, monkeypatch, tmp_path):
    for name, value in {"STEPS": 20, "ADAMW_RATES": (0.01,), "POET_RATES": (0.01,), "MERGES": (5,)}.items():
        monkeypatch.setattr(probe_poet, name, value)
    monkeypatch.setattr(probe_poet, "PHASE_STEPS", 25)
    data = make_spec().data
    rows, curves = probe_poet.spectrum(tokens, data)
    adamw, *turned = rows
    probe_poet.draw_curves("spectrum", rows, curves, tmp_path)
    assert all(row["kept_with_adam"] < adamw["kept_with_adam"] for row in turned)
    assert all(row["n_params_trained"] < adamw["n_params_trained"] == row["n_params_total"] for row in turned)
    ((merged,), _) = probe_poet.merging(tokens, data)
    assert len(merged["of_seeds"].split()) == probe_poet.SEEDS
    rows, curves = probe_poet.phase_dates(tokens, data)
    probe_poet.draw_curves("phases", rows, curves, tmp_path)
    assert {f.name for f in tmp_path.glob("*.png")} == {"poet-spectrum.png", "poet-phases.png"}
    for row in rows:
        assert (row["settled"] is None) == bool(row["note"])
        assert row["cosine_end"] < 1


def test_each_stacked_weight_is_seen_alone_and_as_the_model_uses_it(make_spec):
    plain, _ = build(make_spec(), torch.device("cpu"))
    names = [name for name, _ in weights(plain)]
    assert names[:4] == [*(f"blocks.0.attention.qkv[{k}]" for k in range(3)), "blocks.0.attention.out"]
    assert list(rotations(plain)) == []
    for name, W in weights(plain):
        stem = name.split("[")[0]
        assert np.isin(W.astype(np.float32), plain.get_submodule(stem).weight.detach().numpy()).all()
    turned, _ = build(make_spec(reparameterization="poet_bs"), torch.device("cpu"))
    assert [name for name, _ in weights(turned)] == names
    assert len(list(rotations(turned))) == 2 * len(names)

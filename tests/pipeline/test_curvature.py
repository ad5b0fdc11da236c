"""Curvature of models that are trained here: blocks, weights along a run, updates of every optimizer, commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from model_cases import tiny

from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.clipping import clipped as with_clipping
from algoprogress.analysis.curvature.problem import named, whole
from algoprogress.analysis.curvature.products import GaussNewton, Hessian
from algoprogress.analysis.curvature.sharpness import directional_sharpness, loss_along
from algoprogress.pipeline import checkpoint
from algoprogress.pipeline.curvature.blocks import blocks_of
from algoprogress.pipeline.curvature.measure import trace_of
from algoprogress.pipeline.curvature.subject import batches_of, presets, problem_of, steps_of
from algoprogress.pipeline.curvature.trajectory import trajectory
from algoprogress.pipeline.curvature.updates import Follower, as_vector, clipped, middle_rate
from algoprogress.pipeline.trainer import build, train
from algoprogress.results import Store
from algoprogress.results.schema import RECORD_COLUMNS, SCHEMA_VERSION

QUICK = ["--probes", "2", "--steps", "4", "--batch-tokens", "64"]


@pytest.mark.parametrize("name", list(presets()))
def test_blocks_are_all_trained_coordinates_once(name):
    model = tiny(name)
    blocks = blocks_of(model)
    assert sum(block.n for block in blocks) == sum(p.numel() for p in model.parameters())
    assert len({block.name for block in blocks}) == len(blocks)
    everything = whole(blocks)
    v = torch.arange(1.0, everything.n + 1, dtype=torch.float64)[None]
    torch.testing.assert_close(everything.gather([x.double() for x in everything.spread(v)]), v)


def test_a_fused_weight_is_split_into_the_blocks_that_the_model_uses_it_as():
    model = tiny("modern")
    blocks = {block.name: block for block in blocks_of(model)}
    layer = [name.split(".")[-1] for name in blocks if name.startswith("blocks.0.") and "norm" not in name]
    assert layer == ["q", "k", "v", "o", "gate", "up", "down"]
    qkv = model.blocks[0].attention.qkv.weight
    rows = {name: blocks[f"blocks.0.attention.{name}"].pieces[0].rows for name in "qkv"}
    assert [qkv[rows[name]].shape for name in "qkv"] == [(16, 16)] * 3
    # where there is one token its weight is 1 whatever q and k are
    x = torch.tensor([[3]])
    model(x)[0].square().sum().backward()
    moved = {name: float(qkv.grad[rows[name]].abs().max()) for name in "qkv"}
    assert max(moved["q"], moved["k"]) < 1e-5 * moved["v"]
    assert blocks["embedding"].group == "embedding"
    assert {b.group for b in blocks_of(tiny("lstm"))} == {"embedding", "input", "recurrent", "bias"}


def test_shared_keys_and_values_are_blocks_of_their_own_and_so_is_each_expert():
    torch.manual_seed(0)
    model = Transformer(width=32, n_layers=1, kv_heads=1, qk_norm=True, experts=3).build(20, 8)
    blocks = blocks_of(model)
    assert sum(block.n for block in blocks) == sum(p.numel() for p in model.parameters())
    assert [(b.group, b.n) for b in named(blocks, ["q", "k", "v"])] == [("q", 1024), ("k", 512), ("v", 512)]
    assert len(named(blocks, ["down"])) == 3
    batch = (torch.arange(16).view(2, 8), torch.arange(1, 17).view(2, 8))
    copied, problem = problem_of(model, [batch], "float32")
    everything = whole(blocks_of(copied))
    v = torch.ones(1, everything.n, dtype=torch.float64)
    assert Hessian(problem, [everything]).product(everything)(v).isfinite().all()


def test_an_untied_output_layer_is_a_head():
    torch.manual_seed(0)
    model = Transformer(width=16, n_layers=1, tied=False).build(20, 8)
    assert [block.name for block in named(blocks_of(model), ["head"])] == ["head"]


def test_a_trace_that_would_take_too_much_memory_is_left_out_by_a_sentence():
    batches = [(torch.arange(16).view(2, 8) + k, torch.arange(1, 17).view(2, 8) + k) for k in range(3)]
    model, problem = problem_of(tiny("modern"), batches, "float64")
    (block,) = named(blocks_of(model), ["blocks.0.attention.q"])
    some, all_ = Hessian(problem, [block], 1), Hessian(problem, [block])
    found, expected = (trace_of(hessian, block, 30, 0) for hessian in (some, all_))
    assert found is not None
    assert expected is not None
    assert found.value == pytest.approx(expected.value)  # graphs that are built again give the same
    with pytest.warns(UserWarning, match="the trace of blocks.0.attention.q is left out: 30 products"):
        assert trace_of(all_, block, 30, 0, memory=1000) is None
    assert trace_of(all_, block, 0, 0) is None


@pytest.mark.parametrize("name", ["modern", "retro", "lstm"])
def test_products_with_a_whole_model_are_differences_of_its_gradient(name):
    model, problem = problem_of(tiny(name), [(torch.arange(16).view(2, 8), torch.arange(1, 17).view(2, 8))], "float64")
    everything = whole(blocks_of(model))
    hessian = Hessian(problem, [everything])
    v = torch.randn(everything.n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = directional_sharpness(hessian.product(everything), v)
    h = 1e-4
    losses = loss_along(problem, everything, v / v.norm(), [-h, 0.0, h])["loss"]
    assert found.value == pytest.approx((losses[0] - 2 * losses[1] + losses[2]) / h**2, rel=1e-4, abs=1e-6)
    # cross-entropy is convex in the logits
    positive = GaussNewton(problem, [everything]).product(everything)
    assert float(v @ positive(v[None])[0]) > 0


def test_compiled_kernels_and_fused_attention_stay_out_of_a_second_derivative():
    from algoprogress.ablations import ops
    from algoprogress.pipeline.kernels import kernels

    batch = (torch.arange(16).view(2, 8), torch.arange(1, 17).view(2, 8))
    model, problem = problem_of(tiny("modern"), [batch], "float32")
    everything = whole(blocks_of(model))
    v = torch.ones(1, everything.n, dtype=torch.float64)
    plain = Hessian(problem, [everything]).product(everything)(v)
    with ops.using(ops.Ways(kernels=kernels()[0])):
        torch.testing.assert_close(Hessian(problem, [everything]).product(everything)(v), plain)


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_the_weights_along_a_run_are_those_of_its_training(
    architecture, make_spec, tokens, killed_at_its_first_checkpoint
):
    spec = make_spec(architecture, dropout=0.1)
    path, kept = killed_at_its_first_checkpoint(spec, tokens)
    theirs, optimizer = build(spec, torch.device("cpu"))
    checkpoint.read(path, theirs, optimizer, torch.device("cpu"))
    *_, ours = trajectory(spec, tokens, kept["step"])
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_trajectory_does_not_leave_its_ways_with_who_looks_at_it(make_spec, tokens):
    from algoprogress.ablations import ops
    from algoprogress.pipeline.policy import Policy

    before = ops.chosen()
    for _ in trajectory(make_spec(), tokens, 1, Policy(attention="products")):
        assert ops.chosen() == before
    with pytest.raises(ValueError, match="no step 41 in a run of 40 steps"):
        next(trajectory(make_spec(), tokens, 41))


@pytest.fixture(scope="module")
def gradients():
    """A model with gradients that change from step to step."""
    model = tiny("modern")
    generator = torch.Generator().manual_seed(3)

    def steps(n):
        for _ in range(n):
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
            yield model

    return steps


@pytest.mark.parametrize("name", list(optimizers))
def test_every_optimizer_has_an_update_from_a_shared_trajectory_and_the_trajectory_stays(name, gradients):
    follower = None
    for model in gradients(2):
        before = [p.detach().clone() for p in model.parameters()]
        follower = follower or Follower(name, model)
        update = follower.update(model)
        assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    vector = as_vector(whole(blocks_of(model)), update, model)
    assert vector.isfinite().all()
    assert vector.abs().max() > 0


def test_momenta_are_fed_the_gradients_of_the_trajectory_wherever_it_is(gradients):
    follower, grads = None, []
    for model in gradients(3):
        follower = follower or Follower("adam", model)
        update = follower.update(model)
        grads.append(model.norm.weight.grad.clone())
        with torch.no_grad():
            model.norm.weight += 0.01  # somebody else's step
    recipe = Adam()
    m, v = torch.zeros_like(grads[0]), torch.zeros_like(grads[0])
    for g in grads:
        m, v = recipe.beta1 * m + (1 - recipe.beta1) * g, recipe.beta2 * v + (1 - recipe.beta2) * g**2
    direction = m / (1 - recipe.beta1**3) / ((v / (1 - recipe.beta2**3)).sqrt() + recipe.eps)
    torch.testing.assert_close(update["norm.weight"], -middle_rate(recipe) * direction, rtol=1e-3, atol=1e-6)


def test_a_clipped_update_is_that_of_the_optimizer_with_clipping(gradients):
    import copy

    (model,) = gradients(1)
    ours = clipped(Follower("adam", model).update(model), 0.3)
    twin = copy.deepcopy(model)
    for p, q in zip(twin.parameters(), model.parameters(), strict=True):
        p.grad = q.grad.clone()
    with_clipping(Adam(), 0.3, of="update").build(twin, middle_rate(Adam())).step()
    for (name, p), q in zip(twin.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours[name], p.detach() - q.detach(), rtol=1e-3, atol=1e-7)


def test_batches_are_the_first_of_the_validation_split(make_spec, tokens):
    batches = batches_of(make_spec(), tokens, 3, 64)
    x, y = (torch.cat([batch[i].flatten() for batch in batches]) for i in (0, 1))
    assert x.tolist() == tokens.val[:192].tolist()
    assert y.tolist() == tokens.val[1:193].tolist()
    with pytest.raises(ValueError, match="at least one context of 32 tokens"):
        batches_of(make_spec(), tokens, 1, 16)
    with pytest.raises(ValueError, match=r"validation split has .*: take fewer"):
        batches_of(make_spec(), tokens, 10_000, 3200)


def test_steps_are_named_or_numbered():
    assert steps_of("init, 100,final") == [0, 100, "final"]
    with pytest.raises(ValueError, match="not 'end'"):
        steps_of("end")


def trained(spec, tokens, folder) -> str:
    """The run_id of a run that is trained and stored."""
    run = train(spec, tokens)
    record = dict.fromkeys(column.name for column in RECORD_COLUMNS) | {"schema_version": SCHEMA_VERSION} | run.record
    Store(folder).publish(record, run.curve)
    return run.record["run_id"]


@pytest.fixture
def stored(make_spec, tokens, tmp_path):
    """(folder of a store, run_id) with one run of 40 steps."""
    return tmp_path / "store", trained(make_spec(), tokens, tmp_path / "store")


def test_a_stored_run_is_measured_where_it_began_and_where_it_ended(stored, cli, tmp_path):
    folder, run_id = stored
    figure = tmp_path / "map.png"
    code, out, err = cli(
        "curvature", "heterogeneity", run_id, "--at", "init,final", "--store", folder, "--json", "--points", 2000,
        "--figure", figure, *QUICK
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    table = found["heterogeneity"]
    assert [(row["at"], row["blocks"], row["n_blocks"]) for row in table] == [
        (at, blocks, n) for at in (0, 40) for blocks, n in (("all", 8), ("without_ends", 7))
    ]
    assert all(0 < row["js_nats"] < np.log(2) for row in table)
    assert table[0]["log_spread"] != table[2]["log_spread"]
    assert len(found["pairs"]) == 2 * 8 * 7 / 2
    assert {f.name for f in tmp_path.glob("map*")} == {"map-0.png", "map-0.svg", "map-40.png", "map-40.svg"}


def test_spectra_of_blocks_lie_within_that_of_the_whole(stored, cli, tmp_path):
    folder, run_id = stored
    args = ["curvature", "spectrum", run_id, "--store", folder, "--json", "--dtype", "float64", "--probes", 2]
    args += ["--steps", 25, "--batch-tokens", 64, "--figure", tmp_path / "spectra"]
    (full,) = json.loads(cli(*args, "--by", "full")[1])
    parts = json.loads(cli(*args, "--block", "norm", "--block", "blocks.0.attention.v")[1])
    assert {row["group"] for row in parts} == {"norm", "v"}
    for row in parts:  # Cauchy's interlacing
        assert full["smallest"] - 1e-6 <= row["smallest"] <= row["largest"] <= full["largest"] * 1.001
        assert abs(row["trace"]) <= row["n"] * max(abs(row["smallest"]), row["largest"])
        assert row["rms"] <= max(abs(row["smallest"]), row["largest"]) + 1e-12
    assert (tmp_path / "spectra.svg").exists()


def test_sharpness_compares_optimizers_and_their_clipped_updates(stored, cli, tmp_path):
    folder, run_id = stored
    args = [
        "--at",
        "0,5",
        "--optimizers",
        "sgd,adam",
        "--batches",
        1,
        "--batch-tokens",
        64,
        "--store",
        folder,
        "--json",
    ]
    code, out, err = cli("curvature", "sharpness", run_id, *args, "--figure", tmp_path / "along")
    assert code == 0, err
    found = json.loads(out)
    rows = found["sharpness"]
    assert [(row["at"], row["update_of"]) for row in rows] == [(0, "sgd"), (0, "adam"), (5, "sgd"), (5, "adam")]
    assert abs(rows[0]["ratio"]) == abs(rows[2]["ratio"]) == 1
    assert all(row["clipped"] != row["sharpness"] for row in rows)
    start = [point["loss"] for point in found["loss_along"] if point["length"] == 0]
    assert start == pytest.approx([row["loss"] for row in rows], rel=1e-5)
    code, _, err = cli("curvature", "sharpness", run_id, *args, "--at", "final")
    assert code == 2
    assert "no gradient to follow after the last step" in err


def test_a_run_whose_loss_is_no_number_is_refused_in_words(make_spec, tokens, cli, tmp_path):
    spec = make_spec(learning_rate=1e12, clip=None, optimizer={"name": "sgd"})
    run_id = trained(spec, tokens, tmp_path / "store")
    code, _, err = cli("curvature", "spectrum", run_id, "--at", 8, "--store", tmp_path / "store", *QUICK)
    assert code == 2
    assert "curvature needs a finite loss" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spectrum", "transfomer"], "neither a run_id of 20 hex digits nor one of "),
        (["spectrum", "0" * 20], f"has no run {'0' * 20}"),
        (["spectrum", "RUN", "--block", "conv"], "there is no block 'conv'; the groups are embedding, q, k, v"),
        (["spectrum", "RUN", "--at", "41"], "no step 41 in a run of 40 steps"),
        (
            ["spectrum", "RUN", "--by", "layer"],
            "'tensor', 'group' or 'full', not 'layer'",
        ),
        (["spectrum", "RUN", "--probes", "0"], "--probes: Input should be greater than or equal to 1, not 0"),
        (["spectrum", "RUN", "--dtype", "float16"], "--dtype: Input should be 'float32' or 'float64', not 'float16'"),
        (["heterogeneity", "RUN", "--sigma", "0"], "above 0, not 0"),
        (["heterogeneity", "RUN", "--batch-norm", "test"], "Input should be 'eval' or 'train', not 'test'"),
        (["sharpness", "RUN", "--optimizers", "sgd,adm"], "unknown optimizer 'adm'"),
    ],
)
def test_what_cannot_be_done_is_said(words, message, stored, cli):
    folder, run_id = stored
    code, _, err = cli("curvature", *(run_id if w == "RUN" else w for w in words), "--store", folder)
    assert code == 2
    assert message in err


def test_the_contestants_of_the_benchmark_find_the_same_eigenvalues(monkeypatch):
    from algoprogress.pipeline import bench_curvature

    monkeypatch.setattr(bench_curvature, "MODEL", {**bench_curvature.MODEL, "width": 16, "n_layers": 2})
    monkeypatch.setattr(bench_curvature, "VOCAB_SIZE", 32)
    case = bench_curvature.Case(1)
    ours, plain = bench_curvature.ours(case)(), bench_curvature.straightforward(case)()
    assert len(ours) == len(case.blocks) == 2
    np.testing.assert_allclose(plain, ours, rtol=0.02)
    if bench_curvature.importlib.util.find_spec("hessian_eigenthings"):
        np.testing.assert_allclose(bench_curvature.eigenthings(case)(), ours, rtol=0.02)

"""Curvature of each kind of model on data of its own: the class of images, or masked tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from model_cases import tiny

from algoprogress.analysis.curvature.problem import whole
from algoprogress.analysis.curvature.products import Hessian
from algoprogress.analysis.curvature.sharpness import directional_sharpness
from algoprogress.pipeline.curvature.blocks import blocks_of
from algoprogress.pipeline.curvature.subject import batches_of, problem_of
from algoprogress.pipeline.trainer import build

IMAGES = {
    "resnet18_small": {"conv", "norm", "head", "bias"},
    "vgg16_small": {"conv", "fc", "head", "bias"},
    "vgg16_bn_small": {"conv", "norm", "fc", "head", "bias"},
    "vit_nano": {"patch", "embedding", "q", "k", "v", "o", "up", "down", "norm", "head", "bias"},
    "mixer_nano": {"patch", "up", "down", "norm", "head", "bias"},
    "mlp_small": {"fc", "head", "bias"},
}


def images(n: int = 6, values: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, values), generator=generator), torch.arange(n)[:, None] % 10


@pytest.mark.parametrize(
    ("name", "batch_norm"),
    [*((name, "eval") for name in IMAGES), ("resnet18_small", "train"), ("vgg16_bn_small", "train")],
)
def test_models_of_images_have_curvature_and_blocks_of_their_own(name, batch_norm):
    plain = tiny(name)
    model, problem = problem_of(plain, [images()], "float64", batch_norm)
    blocks = blocks_of(model)
    assert {block.group for block in blocks} == IMAGES[name]
    everything = whole(blocks)
    hessian = Hessian(problem, [everything])
    v = torch.randn(everything.n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = directional_sharpness(hessian.product(everything), v)
    h = 1e-5  # small enough that hardly a ReLU changes its side
    unit = v / v.norm()
    gradients = []
    for sign in (-1, 1):
        step_by(everything, sign * h * unit)
        loss = problem.batch_loss(0)
        gradients.append(everything.gather([g[None] for g in torch.autograd.grad(loss, everything.parameters())])[0])
        step_by(everything, -sign * h * unit)
    assert found.value == pytest.approx(float((gradients[1] - gradients[0]) @ unit) / (2 * h), rel=2e-2, abs=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), tiny(name).parameters(), strict=True))


def step_by(block, v: torch.Tensor) -> None:
    with torch.no_grad():
        for p, move in zip(block.parameters(), block.spread(v[None]), strict=True):
            p += move[0]


def test_batch_norm_is_measured_with_running_statistics_unless_those_of_the_batch_are_asked_for():
    model = tiny("resnet18_small").eval()
    x, y = images()
    losses = {}
    for mode in ("eval", "train"):
        _, problem = problem_of(model, [(x, y)], "float64", mode)
        losses[mode] = problem.mean_loss()
        model.train(mode == "train")
        with torch.no_grad():
            logits = model.double()(x)[0][:, 0]
        assert losses[mode] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, y[:, 0])), rel=1e-9)
        model = tiny("resnet18_small").eval()
    assert losses["eval"] != pytest.approx(losses["train"], rel=1e-3)


@pytest.mark.parametrize("name", [*IMAGES, "bert_nano"])
def test_every_small_preset_has_a_heterogeneity_on_data_of_its_own(name, cli, tmp_path):
    pytest.importorskip("sklearn")
    args = ["--probes", 1, "--steps", 2, "--batch-tokens", 256, "--points", 500, "--store", tmp_path / "store"]
    code, out, err = cli("curvature", "heterogeneity", name, *args, "--corpus", *corpus_of(name, tmp_path), "--json")
    assert code == 0, err
    rows = json.loads(out)["heterogeneity"]
    assert [row["blocks"] for row in rows] == ["all", "without_ends"]
    assert all(0 <= row["js_nats"] < np.log(2) and row["log_spread"] >= 0 for row in rows)


def corpus_of(name: str, folder) -> list[str]:
    if name != "bert_nano":
        return ["digits"]
    text = folder / "text.jsonl"
    lines = [{"text": f"{i} " * 300, "split": "val" if i % 2 else "train"} for i in range(8)]
    text.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return [str(text)]


def test_the_masked_tokens_are_what_a_masked_model_is_measured_on(make_spec, tokens):
    spec = make_spec()
    bert = {"name": "bert", "width": 16, "n_layers": 1, "head_dim": 8}
    spec = type(spec).model_validate(spec.model_dump() | {"architecture": bert})
    ((x, y),) = batches_of(spec, tokens, 1, 64)
    assert ((y != -100).sum(1) == 5).all(), "15 % of 32"
    assert (x == 257).any()
    model, problem = problem_of(build(spec, torch.device("cpu"))[0], [(x, y)], "float64")
    logits = model(x)[0][y != -100].detach()
    assert problem.mean_loss() == pytest.approx(float(torch.nn.functional.cross_entropy(logits, y[y != -100])))
    everything = whole(blocks_of(model))
    v = torch.ones(1, everything.n, dtype=torch.float64)
    assert Hessian(problem, [everything]).product(everything)(v).isfinite().all()

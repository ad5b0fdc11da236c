"""What the shipped spectra and updates say: the signs of `docs/curvature.md`, from the files of `results/curvature`."""

import json
from pathlib import Path

import numpy as np
import pytest

STORE = Path(__file__).parents[2] / "results" / "curvature"
TRANSFORMERS, CONVOLUTIONAL = {"vit", "bert", "gpt2"}, {"vgg11", "vgg11_bn"}


def said(cli, *words: str) -> dict | list:
    code, out, err = cli("curvature", *words, "--store", STORE, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def lead(cli):
    return {row["model"]: row for row in said(cli, "lead", "hessian_heterogeneity-demo")["models"]}


def test_blocks_of_transformers_are_more_unlike_than_those_of_convolutional_networks(lead):
    far = [lead[m]["js_nats"] for m in TRANSFORMERS]
    near = [lead[m]["js_nats"] for m in CONVOLUTIONAL]
    assert min(far) > 5 * max(near)
    spread = [np.mean([lead[m]["log_spread"] for m in models]) for models in (TRANSFORMERS, CONVOLUTIONAL)]
    assert spread[0] > 2 * spread[1]


def test_adam_saves_compute_on_transformers_and_not_on_convolutional_networks(lead):
    assert all(lead[m]["ceg_low"] > 1 for m in TRANSFORMERS)
    assert all(lead[m]["ceg_low"] < 1 for m in CONVOLUTIONAL)
    assert all(row["n_seeds"] == 3 for row in lead.values())


def test_in_train_mode_a_network_with_batch_norm_is_as_unlike_as_a_transformer(cli):
    rows = said(cli, "over-steps", "hessian_heterogeneity-demo")
    by = {(row["model"], row["step"], row["how_batch_norm"]): row["js_nats"] for row in rows}
    assert by["vgg11_bn", 0, "train"] > 5 * by["vgg11_bn", 0, "eval"]
    assert by["vgg11_bn", 0, "train"] > by["vit", 0, "eval"]


def test_updates_of_adam_and_clipped_ones_are_less_sharp_than_those_of_sgd(cli):
    rows = {(r["along"], r["update_of"], r["clipped"]): r for r in said(cli, "ratios", "sharpness-demo")}
    for along in ("gpt2_sgd", "gpt2_adam"):
        for update in (("adam", False), ("adam", True), ("sgd", True)):
            found = rows[along, *update]
            assert found["below"] == found["n"] == 6
            assert found["median"] < 0.5

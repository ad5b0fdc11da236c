"""FLOP and parameters against numbers that were worked out by hand."""

import pytest
from model_cases import data_of, shape_of

from algoprogress.ablations.accounting import CONVENTIONS, flop_per_token, n_params, n_params_total
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.mlp import MLP
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.architectures.vit import ViT
from algoprogress.ablations.spec import RunSpec

every = pytest.mark.parametrize("name", list(architectures))
V, T = 10, 6


def test_a_small_transformer_by_hand():
    config = Transformer(width=4, head_dim=2, n_layers=1, ff_ratio=4, activation="relu", norm="rmsnorm", tied=False)
    # attention 4 * 4 * 4 = 64, feed-forward 2 * 4 * 16 = 128, three norms of 4
    assert n_params(config, V, T) == 64 + 128 + 12
    assert n_params_total(config, V, T) == 204 + 2 * 10 * 4
    # a multiply-add is 2: layers 2 (64 + 128) = 384; scores and sum 2 * 2 * 6 * 4 = 96; output 2 * 4 * 10 = 80
    assert config.forward_flop(V, T) == {"layers": 384, "attention": 96, "output": 80}
    assert flop_per_token(config, V, T) == 3 * 560
    assert flop_per_token(config, V, T, "6n") == 6 * 204
    assert flop_per_token(config, V, T, "6n_total") == 6 * 284


def test_a_small_lstm_by_hand():
    config = LSTM(width=4, n_layers=1)
    # four gates of 4, each with a 4 x 4 input matrix, a 4 x 4 recurrent one and torch's two biases
    assert n_params(config, V, T) == 4 * (16 + 16 + 4 + 4)
    assert n_params_total(config, V, T) == 160 + 10 * 4
    assert config.forward_flop(V, T) == {"layers": 128, "recurrence": 128, "output": 80}
    assert flop_per_token(config, V, T) == 3 * 336
    assert flop_per_token(config, V, T, "6n") == 960


def test_a_small_vit_by_hand():
    config = ViT(width=4, head_dim=2, n_layers=1, ff_ratio=2, patch=4)
    # 4 patches of 16 pixels, each 16 x 4 and a bias; a layer: attention 4 (4 * 4 + 4), feed-forward 2 * 4 * 8 + 8 + 4,
    # two norms of weight and bias; the last norm
    assert n_params(config, 10, 64) == 68 + 80 + 76 + 16 + 8
    # the class token, 5 positions, and the output layer with its bias
    assert n_params_total(config, 10, 64) == 248 + 4 + 20 + 50
    # of an image: patches 2 * 4 * 64; layers 5 tokens of 2 (64 + 64); scores and sums 5 tokens of 2 * 2 * 5 * 4;
    # output 2 * 4 * 10. The patches' input needs no gradient
    assert flop_per_token(config, 10, 64) * 64 == pytest.approx(2 * 512 + 3 * (1280 + 400 + 80))


def test_a_small_perceptron_by_hand():
    config = MLP(width=4, n_layers=2)
    assert n_params(config, 10, 64) == 64 * 4 + 4 + 4 * 4 + 4
    assert flop_per_token(config, 10, 64) * 64 == pytest.approx(2 * 2 * 64 * 4 + 3 * 2 * (16 + 40))


@every
def test_standard_is_three_times_the_forward_pass_but_for_the_gradient_of_an_image(name):
    config = architectures[name]()
    shape = shape_of(config)
    parts = config.forward_flop(*shape)
    assert ("input" in parts) == (config.objective == "class")
    assert flop_per_token(config, *shape) == 3 * sum(parts.values()) - parts.get("input", 0)
    assert flop_per_token(config, *shape) == flop_per_token(config, *shape, "standard")


@every
def test_six_n_is_six_times_the_parameters(name):
    config = architectures[name]()
    shape = shape_of(config)
    assert flop_per_token(config, *shape, "6n") == 6 * n_params(config, *shape)
    assert flop_per_token(config, *shape, "6n_total") == 6 * n_params_total(config, *shape)


@every
def test_an_unknown_convention_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown FLOP convention '6N'; known: standard, 6n, 6n_total"):
        flop_per_token(architectures[name](), 257, 128, "6N")


@every
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_run_costs_its_tokens(name, convention):
    config = architectures[name]()

    def spec(batches: int) -> RunSpec:
        fields = data_of(config) | {"tokens": 2048 * batches}
        return RunSpec(architecture=config, learning_rate=0.01, **fields)

    one, shape = spec(1), shape_of(config)
    assert spec(7).flop(convention) == pytest.approx(7 * one.flop(convention), rel=1e-12)
    assert one.flop(convention) == 2048 * flop_per_token(config, *shape, convention)
    assert one.compute == one.flop("standard")
    assert (one.n_params, one.n_params_total) == config.parameters(*shape)
    assert spec(7).steps == 7


@every
@pytest.mark.parametrize("vocab_size", [257, 2048])
def test_a_larger_vocabulary_costs_only_the_output_layer(name, vocab_size):
    config = architectures[name]()
    context, mask = shape_of(config)[1], int(config.objective == "masked tokens")  # BERT's has an output as well
    small, large = (config.forward_flop(v - mask, context) for v in (vocab_size, 2 * vocab_size))
    assert large["output"] == 2 * small["output"]
    assert {k: v for k, v in large.items() if k != "output"} == {k: v for k, v in small.items() if k != "output"}


def test_six_n_leaves_out_attention_and_output_and_so_lies_below_standard():
    for config in (Transformer(width=64), LSTM(width=64)):
        assert flop_per_token(config, 257, 128, "6n") < flop_per_token(config, 257, 128)

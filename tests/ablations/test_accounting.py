"""FLOP and parameters against numbers that were worked out by hand."""

import pytest

from algoprogress.ablations.accounting import CONVENTIONS, flop_per_token, n_params, n_params_total
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.spec import Data, RunSpec

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


@every
def test_standard_is_three_times_the_forward_pass(name):
    config = architectures[name]()
    assert flop_per_token(config, 257, 128) == 3 * sum(config.forward_flop(257, 128).values())
    assert flop_per_token(config, 257, 128) == flop_per_token(config, 257, 128, "standard")


@every
def test_six_n_is_six_times_the_parameters(name):
    config = architectures[name]()
    assert flop_per_token(config, 257, 128, "6n") == 6 * n_params(config, 257, 128)
    assert flop_per_token(config, 257, 128, "6n_total") == 6 * n_params_total(config, 257, 128)


@every
def test_an_unknown_convention_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown FLOP convention '6N'; known: standard, 6n, 6n_total"):
        flop_per_token(architectures[name](), 257, 128, "6N")


@every
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_run_costs_its_tokens(name, convention):
    def spec(batches: int) -> RunSpec:
        return RunSpec(architecture=architectures[name](), tokens=2048 * batches, learning_rate=0.01, data=Data())

    one = spec(1)
    assert spec(7).flop(convention) == 7 * one.flop(convention)
    assert one.flop(convention) == 2048 * flop_per_token(one.architecture, 257, 128, convention)
    assert one.compute == one.flop("standard")
    assert (one.n_params, one.n_params_total) == one.architecture.parameters(257, 128)
    assert spec(7).steps == 7


@every
@pytest.mark.parametrize("vocab_size", [257, 2048])
def test_a_larger_vocabulary_costs_only_the_output_layer(name, vocab_size):
    small, large = (architectures[name]().forward_flop(v, 128) for v in (vocab_size, 2 * vocab_size))
    assert large["output"] == 2 * small["output"]
    assert {k: v for k, v in large.items() if k != "output"} == {k: v for k, v in small.items() if k != "output"}


def test_six_n_leaves_out_attention_and_output_and_so_lies_below_standard():
    for config in (Transformer(width=64), LSTM(width=64)):
        assert flop_per_token(config, 257, 128, "6n") < flop_per_token(config, 257, 128)

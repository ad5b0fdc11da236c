"""The LSTM against its equations, written out cell by cell: the same logits, and the FLOP that no counter sees.

Shapes: B streams, T steps, D width, V vocabulary.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from algoprogress.ablations.architectures.lstm import LSTM, LSTMModel

B, T, V = 3, 7, 13


def tokens() -> Tensor:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


def unrolled(model: LSTMModel, tokens_BT: Tensor) -> Tensor:
    """Hochreiter and Schmidhuber 1997 with forget gates (Gers et al. 2000); logits_BTV."""
    x_TBD = model.embedding(tokens_BT).transpose(0, 1)
    for w_input, w_recurrent, b_input, b_recurrent in model.lstm.all_weights:
        h = c = torch.zeros_like(x_TBD[0])
        outputs = []
        for x in x_TBD:
            i, f, g, o = (F.linear(x, w_input, b_input) + F.linear(h, w_recurrent, b_recurrent)).chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        x_TBD = torch.stack(outputs)
    return F.linear(x_TBD.transpose(0, 1), model.head.weight)


@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_the_model_is_its_equations(n_layers, tied):
    torch.manual_seed(0)
    model = LSTM(width=10, n_layers=n_layers, tied=tied).build(V, T).double()
    torch.testing.assert_close(model(tokens())[0], unrolled(model, tokens()), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_counted_flop_are_those_of_the_equations(n_layers):
    config = LSTM(width=10, n_layers=n_layers)
    model = config.build(V, T)
    with FlopCounterMode(display=False) as counter:
        unrolled(model, tokens())
    assert counter.get_total_flops() == B * T * sum(config.forward_flop(V, T).values())


def test_input_and_recurrent_products_cost_the_same():
    parts = LSTM(width=10, n_layers=2).forward_flop(V, T)
    assert parts["layers"] == parts["recurrence"] == 2 * 2 * 4 * 10 * 10
    assert parts["output"] == 2 * 10 * V


@pytest.mark.parametrize("forget_bias", [0.0, 1.0, 2.5])
def test_the_forget_gates_begin_open_and_the_other_gates_at_zero(forget_bias):
    model = LSTM(width=10, n_layers=2, forget_bias=forget_bias).build(V, T)
    for _, _, b_input, b_recurrent in model.lstm.all_weights:
        input_gate, forget, cell, output = (b_input + b_recurrent).chunk(4)
        assert forget.eq(forget_bias).all()
        assert all(gate.eq(0).all() for gate in (input_gate, cell, output))


def test_the_state_reaches_into_the_next_batch_and_can_be_cut_for_gradients():
    torch.manual_seed(0)
    model = LSTM(width=10).build(V, T).double()
    _, state = model(tokens())
    from_nothing, _ = model(tokens())
    carried, _ = model(tokens(), tuple(s.detach() for s in state))
    assert not torch.allclose(from_nothing, carried)
    carried.sum().backward()  # truncated: the first pass is no part of the graph
    assert all(s.shape == (1, B, 10) for s in state)


def test_an_lstm_streams():
    assert LSTM.streams

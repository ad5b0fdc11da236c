"""What every architecture promises: exact counts, no look into the future, and a start as good as guessing.

A new architecture, and a new preset of an old one, is tested by being registered.
Shapes: B batch, T context, D width, V vocabulary.
"""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from algoprogress.ablations.accounting import flop_per_token, n_params, n_params_total
from algoprogress.ablations.architectures import ArchitectureConfig, architectures
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.ops import math_attention

B, T, V = 2, 12, 19
# Of a Transformer, each beside the biases, which some of them change too.
OPTIONS: dict[str, dict[str, Any]] = {
    "qk_norm": {"qk_norm": True},
    "qk_norm-learned-bias": {"qk_norm": True, "position": "learned", "bias": True},
    "grouped": {"kv_heads": 2},
    "multi_query-qk_norm-bias": {"kv_heads": 1, "qk_norm": True, "bias": True},
    "experts": {"experts": 4},
    "experts-gelu-bias": {"experts": 3, "experts_per_token": 1, "activation": "gelu", "bias": True},
}
# Parts that torch's counter does not see: on a CPU the LSTM is one fused kernel. test_lstm.py counts them unrolled.
NOT_COUNTED: dict[str, set[str]] = {"lstm": {"layers", "recurrence"}}


def configs() -> dict[str, ArchitectureConfig]:
    """Every architecture with its defaults, every preset, and the untied form of each that can be tied."""
    found: dict[str, ArchitectureConfig] = {}
    for name in architectures:
        kind = architectures[name]
        found[name] = kind()
        found |= {f"{name}-{preset}": kind.preset(preset) for preset in getattr(kind, "presets", {})}
    found |= {f"transformer-{label}": Transformer(**fields) for label, fields in OPTIONS.items()}
    for label, config in list(found.items()):
        if "tied" in type(config).model_fields:
            found[f"{label}-untied"] = config.model_copy(update={"tied": False})
    return found


CONFIGS = configs()
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def build(config: ArchitectureConfig, context: int = T, vocab_size: int = V, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return config.build(vocab_size, context)


def tokens(batch: int = B, context: int = T, vocab_size: int = V, seed: int = 1) -> Tensor:
    return torch.randint(vocab_size, (batch, context), generator=torch.Generator().manual_seed(seed))


def embedded(model: nn.Module, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(logits_BTV, embeddings_BTD): the token embeddings as a leaf through which gradients can be taken."""
    leaves: list[Tensor] = []

    def hook(_module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if args[0] is not tokens_BT:
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, nn.Embedding)]
    logits_BTV, _ = model(tokens_BT)
    for handle in handles:
        handle.remove()
    assert len(leaves) == 1, "the model looks each token up once"
    return logits_BTV, leaves[0]


def influence(model: nn.Module, tokens_BT: Tensor) -> Tensor:
    """|d logits[t] / d embedding[t']|, one random direction of the logits; (t, t')."""
    logits_BTV, embedding_BTD = embedded(model, tokens_BT)
    weights_V = torch.randn(logits_BTV.shape[-1], generator=torch.Generator().manual_seed(2)).to(logits_BTV)
    rows = [
        torch.autograd.grad((logits_BTV[:, t] @ weights_V).sum(), embedding_BTD, retain_graph=True)[0]
        for t in range(tokens_BT.shape[1])
    ]
    return torch.stack(rows).abs().sum(dim=(1, 3))


@every
def test_the_counted_parameters_are_those_of_the_module(config):
    model = build(config)
    tables = {id(p): p for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    head = {id(p): p for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == V for p in [m.weight]}
    total = sum(p.numel() for p in model.parameters())  # parameters() gives a tied table once
    assert n_params_total(config, V, T) == total
    assert n_params(config, V, T) == total - sum(p.numel() for p in (tables | head).values())
    assert all(p.requires_grad for p in model.parameters())


@every
def test_the_non_embedding_count_knows_neither_vocabulary_nor_context(config):
    assert n_params(config, 257, 128) == n_params(config, 50_257, 1024)


@every
def test_the_counted_flop_of_a_forward_pass_are_those_that_torch_counts(config):
    model = build(config)
    with math_attention(), FlopCounterMode(display=False) as counter:
        model(tokens())
    parts = config.forward_flop(V, T)
    assert set(parts) <= {"layers", "attention", "recurrence", "output"}
    counted = sum(flop for part, flop in parts.items() if part not in NOT_COUNTED.get(config.name, set()))
    assert counter.get_total_flops() == counted * B * T


@every
def test_the_output_layer_costs_two_flop_for_each_of_its_weights(config):
    model = build(config)
    with FlopCounterMode(display=False) as counter:
        model(tokens())
    counts = counter.get_flop_counts()
    head = [name for name, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == V]
    found = sum(sum(counts[f"{type(model).__name__}.{name}"].values()) for name in head)
    assert found == config.forward_flop(V, T)["output"] * B * T


@every
def test_a_training_step_costs_three_forward_passes(config):
    model = build(config)
    with math_attention(), FlopCounterMode(display=False) as forward:
        model(tokens())
    with math_attention(), FlopCounterMode(display=False) as both:
        F.cross_entropy(model(tokens())[0].flatten(0, 1), tokens(seed=3).flatten()).backward()
    assert both.get_total_flops() == 3 * forward.get_total_flops()
    assert flop_per_token(config, V, T) == 3 * sum(config.forward_flop(V, T).values())


@every
def test_no_logit_depends_on_a_later_token(config):
    model = build(config).double()
    seen = influence(model, tokens())
    assert torch.equal(seen.triu(1), torch.zeros_like(seen)), "exactly zero above the diagonal"
    assert (seen[torch.tril(torch.ones(T, T, dtype=torch.bool))] > 0).all(), "and every earlier token counts"


@every
def test_a_change_of_a_later_token_changes_no_logit(config):
    model = build(config).double()
    changed = tokens().clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % V
    with torch.no_grad():
        (before, _), (after, _) = model(tokens()), model(changed)
    # another token may pass another expert: its product then has other rows, which moves the last bits of them all
    bits = 1e-12 if getattr(config, "experts", 1) > 1 else 0.0
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=bits)
    assert ((before[:, 7:] - after[:, 7:]).abs() > 1e-6).any()


@every
@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_at_the_start_is_that_of_guessing(config, seed):
    model = build(config, 64, 257, seed)
    x, y = tokens(8, 64, 257), tokens(8, 64, 257, seed=2)
    with torch.no_grad():
        loss = F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())
    assert loss.item() == pytest.approx(math.log(257), rel=0.05)


@every
def test_one_logit_for_each_token_and_each_word(config):
    model = build(config)
    for batch, context in ((B, T), (1, T), (3, 5), (1, 1)):
        assert model(tokens(batch, context))[0].shape == (batch, context, V)


@every
def test_the_rows_of_a_batch_are_independent(config):
    model = build(config).double()
    with torch.no_grad():
        whole, one = model(tokens())[0][1:], model(tokens()[1:])[0]
    torch.testing.assert_close(whole, one, rtol=1e-12, atol=1e-12)


@every
def test_a_seed_decides_the_initial_weights(config):
    first, again, other = build(config, seed=5), build(config, seed=5), build(config, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    with torch.no_grad():
        assert torch.equal(first(tokens())[0], again(tokens())[0])


@every
def test_the_state_says_whether_a_model_streams(config):
    model = build(config)
    _, state = model(tokens(), None)
    if not config.streams:
        assert state is None
        return
    # batches that follow each other in time, the state handed on, are one long batch
    model, x = model.double(), tokens()
    with torch.no_grad():
        whole, last = model(x)
        left, state = model(x[:, :5])
        right, state = model(x[:, 5:], state)
    torch.testing.assert_close(torch.cat([left, right], dim=1), whole, rtol=1e-12, atol=1e-12)
    for a, b in zip(state, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@every
def test_a_move_to_another_precision_changes_the_precision_alone(config):
    single, moved, doubled = build(config), build(config).to(torch.float64), build(config).double()
    with torch.no_grad():
        assert torch.equal(moved(tokens())[0], doubled(tokens())[0])
        assert moved(tokens())[0].dtype == torch.float64
        torch.testing.assert_close(single(tokens())[0].double(), moved(tokens())[0], rtol=1e-4, atol=1e-5)


@every
def test_every_parameter_learns(config):
    model = build(config)
    F.cross_entropy(model(tokens())[0].flatten(0, 1), tokens(seed=3).flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@every
def test_a_tied_output_layer_is_the_token_table(config):
    if "tied" not in type(config).model_fields:
        pytest.skip("cannot be tied")
    weights = [m.weight for m in build(config).modules() if isinstance(m, nn.Embedding | nn.Linear)]
    tables = [w for w in weights if w.shape[0] == V]
    assert len(tables) == 2
    assert (tables[0] is tables[1]) == config.tied


@every
def test_an_unknown_preset_lists_the_known_ones(config):
    with pytest.raises(ValueError, match=r"unknown preset 'futuristic'; known: "):
        type(config).preset("futuristic")


@pytest.mark.parametrize("name", [n for n in architectures if "dropout" in architectures[n].model_fields])
def test_dropout_is_for_training_alone(name):
    model = build(architectures[name](dropout=0.5))
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(model(tokens())[0], model(tokens())[0])
        model.eval()
        assert torch.equal(model(tokens())[0], model(tokens())[0])
    plain = build(architectures[name]())
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(plain.eval()(tokens())[0], model(tokens())[0])

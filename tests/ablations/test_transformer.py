"""The Transformer on every axis of the study, and the two parts that are easy to get wrong: rotary and attention.

Shapes: B batch, T context, D width, H heads, K head dimension, V vocabulary.
"""

import itertools
import math
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from algoprogress.ablations import ops
from algoprogress.ablations.architectures.transformer import Transformer, rotations, sinusoids
from algoprogress.ablations.ops import math_attention, rotate

B, T, V = 2, 6, 11
AXES: dict[str, tuple[Any, ...]] = {
    name: get_args(field.annotation) if get_origin(field.annotation) is Literal else (False, True)
    for name, field in Transformer.model_fields.items()
    if name != "name" and (get_origin(field.annotation) is Literal or field.annotation is bool)
}
GRID = [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]


def tokens(batch: int = B, context: int = T) -> torch.Tensor:
    return torch.randint(V, (batch, context), generator=torch.Generator().manual_seed(1))


def test_the_axes_are_those_of_the_study():
    assert set(AXES) == {"activation", "norm", "placement", "position", "bias", "tied", "init", "qk_norm"}
    assert len(GRID) == 864


@pytest.mark.parametrize("activation", AXES["activation"])
@pytest.mark.parametrize("position", AXES["position"])
def test_every_combination_of_axes_counts_its_parameters_and_flop_exactly(activation, position):
    for point in GRID:
        if (point["activation"], point["position"]) != (activation, position):
            continue
        config = Transformer(width=16, head_dim=8, ff_ratio=2.7, **point)
        model = config.build(V, T)
        total = sum(p.numel() for p in model.parameters())
        outside = model.embedding.weight.numel() * (1 if config.tied else 2)
        outside += model.learned.weight.numel() if model.learned is not None else 0
        assert config.parameters(V, T) == (total - outside, total), point
        if point["init"] != "normal":  # the numbers in the matrices cost nothing
            continue
        with math_attention(), FlopCounterMode(display=False) as counter:
            model(tokens())
        assert counter.get_total_flops() == B * T * sum(config.forward_flop(V, T).values()), point


@pytest.mark.parametrize("activation", AXES["activation"])
@pytest.mark.parametrize("position", AXES["position"])
def test_every_combination_of_axes_is_causal_and_starts_at_guessing(activation, position):
    for point in GRID:
        if (point["activation"], point["position"]) != (activation, position):
            continue
        torch.manual_seed(0)
        model = Transformer(width=16, head_dim=8, **point).build(V, T).double()
        leaf: list[torch.Tensor] = []
        model.embedding.register_forward_hook(lambda m, a, out, leaf=leaf: leaf.append(out.requires_grad_()) or out)
        logits_BTV, _ = model(tokens())
        assert F.cross_entropy(logits_BTV.flatten(0, 1), tokens().roll(1).flatten()).item() == pytest.approx(
            math.log(V), rel=0.05
        ), point
        weights_V = torch.linspace(-1, 2, V, dtype=torch.float64) ** 2
        for t in (0, 2, T - 1):
            seen = torch.autograd.grad((logits_BTV[:, t] @ weights_V).sum(), leaf[0], retain_graph=True)[0]
            seen_T = seen.abs().sum(dim=(0, 2))
            assert seen_T[t + 1 :].eq(0).all(), point
            assert seen_T[: t + 1].gt(0).all(), point


def test_presets_are_the_choices_of_2017_and_2023():
    retro, modern = Transformer.preset("retro"), Transformer.preset("modern")
    assert (retro.placement, retro.norm, retro.position, retro.bias) == ("post", "layernorm", "sinusoidal", True)
    assert (modern.placement, modern.norm, modern.position, modern.bias) == ("pre", "rmsnorm", "rotary", False)
    assert (retro.activation, modern.activation) == ("gelu", "swiglu")
    assert Transformer.preset("modern", tied=False, width=32) == modern.model_copy(update={"tied": False, "width": 32})


def test_the_two_presets_have_nearly_equal_feed_forward_parameters():
    retro, modern = Transformer.preset("retro", width=192), Transformer.preset("modern", width=192)
    assert 3 * modern.ff_width == 2 * retro.ff_width


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 24, "head_dim": 16}, "width 24 is not a multiple of head_dim 16"),
        ({"width": 15, "head_dim": 5, "position": "rotary"}, "head_dim must be even, not 5"),
        ({"preset": "modern"}, "preset"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Transformer(**fields)


def test_an_odd_head_is_fine_without_rotary_positions():
    model = Transformer(width=15, head_dim=5, position="sinusoidal").build(V, T)
    assert model(tokens())[0].isfinite().all()


@pytest.mark.parametrize("preset", Transformer.presets)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_attention_by_plain_products_gives_the_same_output_and_gradient(preset, dtype, tolerance):
    torch.manual_seed(0)
    model = Transformer.preset(preset, width=32, head_dim=16, init_std=0.3).build(V, T).to(dtype)

    def run() -> list[torch.Tensor]:
        logits, _ = model(tokens())
        return [logits.detach(), *torch.autograd.grad(logits.square().sum(), list(model.parameters()))]

    fused = run()
    with math_attention():
        plain = run()
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * a.abs().max().item())


@pytest.mark.parametrize("preset", Transformer.presets)
def test_attention_by_plain_products_has_second_derivatives(preset):
    torch.manual_seed(0)
    model = Transformer.preset(preset, width=16, head_dim=16, n_layers=1, init_std=0.3).build(V, T).double()
    weights = dict(model.named_parameters())  # a tied table once
    direction = {name: torch.randn_like(w) for name, w in weights.items()}

    def slope(along: float) -> torch.Tensor:
        """The directional derivative of the loss, `along` the direction."""
        moved = {name: (w + along * direction[name]).detach().requires_grad_() for name, w in weights.items()}
        logits, _ = torch.func.functional_call(model, moved, (tokens(),), tie_weights=True)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens().roll(1).flatten())
        gradient = torch.autograd.grad(loss, list(moved.values()), create_graph=True)
        first = sum((g * d).sum() for g, d in zip(gradient, direction.values(), strict=True))
        second = torch.autograd.grad(first, list(moved.values()))
        curvatures.append(sum((c * d).sum() for c, d in zip(second, direction.values(), strict=True)).item())
        return first.detach()

    curvatures: list[float] = []
    with math_attention():
        h = 1e-5
        slope(0.0)
        assert curvatures[0] == pytest.approx(((slope(h) - slope(-h)) / (2 * h)).item(), rel=1e-5)


def test_the_switch_is_off_again_after_its_block_and_after_an_error():
    with pytest.raises(RuntimeError, match="inside"), math_attention():
        assert ops.chosen().attention == "twice_differentiable"
        raise RuntimeError("inside")
    assert ops.chosen() == ops.Ways()


def test_rotary_scores_depend_on_the_distance_alone():
    context, K = 40, 8
    generator = torch.Generator().manual_seed(0)
    q_K, k_K = torch.randn(2, K, generator=generator)
    turns = rotations(context, K)
    q_TK = rotate(q_K.expand(1, context, 1, K).contiguous(), turns)[0, :, 0]
    k_TK = rotate(k_K.expand(1, context, 1, K).contiguous(), turns)[0, :, 0]
    scores_TT = q_TK @ k_TK.T
    for distance in range(-20, 21):
        along = scores_TT.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=0, atol=2e-5)
    assert scores_TT.diagonal(0)[0].item() == pytest.approx((q_K @ k_K).item(), abs=1e-5)
    assert scores_TT[0].std() > 0.1, "and do depend on it"


def test_rotations_keep_lengths_and_leave_the_first_position_alone():
    x_BTHK = torch.randn(2, 9, 3, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x_BTHK, rotations(9, 8))
    torch.testing.assert_close(turned.norm(dim=-1), x_BTHK.norm(dim=-1))
    assert torch.equal(turned[:, 0], x_BTHK[:, 0])


@pytest.mark.parametrize("width", [8, 15])
def test_sinusoids_are_those_of_the_paper(width):
    table = sinusoids(30, width)
    assert table.shape == (30, width)
    for t, i in itertools.product((0, 1, 29), range(width)):
        angle = t / 10000 ** (2 * (i // 2) / width)
        assert table[t, i].item() == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle), abs=1e-5)


@pytest.mark.parametrize("position", AXES["position"])
def test_every_kind_of_position_tells_one_order_of_words_from_another(position):
    torch.manual_seed(0)
    model = Transformer(width=16, n_layers=1, position=position, init_std=0.5).build(V, T).double()
    x = torch.tensor([[1, 2, 3, 4, 5, 6], [3, 2, 1, 5, 4, 6]])
    with torch.no_grad():
        a, b = model(x)[0][:, -1]
    assert not torch.allclose(a, b, rtol=1e-3)


def test_depth_scaled_shrinks_what_is_added_to_the_residual_stream():
    torch.manual_seed(0)
    model = Transformer(width=128, n_layers=8, init="depth_scaled", init_std=0.02).build(V, T)
    for block in model.blocks:
        assert block.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        for layer in (block.attention.out, block.feed_forward.down):
            assert layer.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)


@pytest.mark.parametrize("init", AXES["init"])
def test_biases_start_at_zero_and_norms_at_one(init):
    model = Transformer(width=32, bias=True, norm="layernorm", init=init).build(V, T)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            assert module.bias.eq(0).all()
        if isinstance(module, nn.LayerNorm):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def test_bfloat16_autocast_stays_near_float32():
    torch.manual_seed(0)
    model = Transformer.preset("modern", width=32).build(V, T)
    with torch.no_grad():
        exact, _ = model(tokens())
        with torch.autocast("cpu", torch.bfloat16):
            rough, _ = model(tokens())
    torch.testing.assert_close(rough.float(), exact, rtol=0.1, atol=0.02)

"""What every architecture promises: exact counts, a look at what it may see and no more, a start as good as guessing.

A new architecture, and a new preset of an old one, is tested by being registered; a large one by its counts.
Shapes: B batch, T context, D width, V vocabulary; of images T values and V classes.
"""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_cases import shape_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from algoprogress.ablations.accounting import flop_per_token, n_params, n_params_total
from algoprogress.ablations.architectures import ArchitectureConfig, architectures
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.ops import math_attention

B, T, V = 2, 12, 19
SMALL = 1e6  # parameters of a model that is run
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
PUBLISHED = {  # the models of torchvision, transformers and timm; BERT's without its two segments
    "transformer-gpt2": ((50_257, 1024), 124_439_808),
    "bert-bert_base": ((30_521, 512), 109_514_298 - 2 * 768),
    "resnet-resnet18": ((1000, 3 * 224**2), 11_689_512),
    "resnet-resnet34": ((1000, 3 * 224**2), 21_797_672),
    "vgg-vgg16": ((1000, 3 * 224**2), 138_357_544),
    "vgg-vgg16_bn": ((1000, 3 * 224**2), 138_365_992),
    "vit-vit_base": ((1000, 3 * 224**2), 86_567_656),
    "mlp_mixer-mixer_base": ((1000, 3 * 224**2), 59_880_472),
}


def configs() -> dict[str, ArchitectureConfig]:
    """Every architecture with its defaults, every preset, and the untied form of each that can be tied."""
    found: dict[str, ArchitectureConfig] = {}
    for name in architectures:
        kind = architectures[name]
        found[name] = kind()
        found |= {f"{name}-{preset}": kind.preset(preset) for preset in getattr(kind, "presets", {})}
    found |= {f"transformer-{label}": Transformer(**fields) for label, fields in OPTIONS.items()}
    for label, config in list(found.items()):
        if "tied" in type(config).model_fields and config.width < 100:
            found[f"{label}-untied"] = config.model_copy(update={"tied": False})
    return found


def shape(config: ArchitectureConfig) -> tuple[int, int]:
    """(V, T) at which a model is tested: of images of 8 or, with large patches, of 224 pixels a side."""
    large = config.objective == "class" and getattr(config, "patch", 1) > 2
    return (10, 3 * 224**2) if large else shape_of(config, V, T)


CONFIGS = configs()
RUN = {k: c for k, c in CONFIGS.items() if n_params(c, *shape(c)) < SMALL}


def parametrize(configs: dict[str, ArchitectureConfig], *objectives: str) -> Any:
    chosen = {k: c for k, c in configs.items() if not objectives or c.objective in objectives}
    return pytest.mark.parametrize("config", chosen.values(), ids=chosen.keys())


counted, every = parametrize(CONFIGS), parametrize(RUN)
of_text, causal = parametrize(RUN, "next token", "masked tokens"), parametrize(RUN, "next token")
bidirectional, of_images = parametrize(RUN, "masked tokens"), parametrize(RUN, "class")


def build(config: ArchitectureConfig, context: int = T, vocab_size: int = V, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return config.build(*shape_of(config, vocab_size, context))


def empty(config: ArchitectureConfig) -> tuple[nn.Module, Tensor]:
    """A model of any size, and what it reads, without memory for either."""
    V, T = shape(config)
    with torch.device("meta"):
        return config.build(V, T), torch.zeros(B, T, dtype=torch.long)


def n_outputs(config: ArchitectureConfig, vocab_size: int = V) -> int:
    return shape_of(config, vocab_size)[0] + int(config.objective == "masked tokens")  # the mask


def read(config: ArchitectureConfig, batch: int = B, seed: int = 1) -> Tensor:
    """Tokens, or the values of images, at the size at which models are run."""
    images = config.objective == "class"
    return tokens(batch, shape_of(config, V, T)[1], 256 if images else V, seed)


def loss_of(model: nn.Module, config: ArchitectureConfig) -> Tensor:
    """Of targets that do not follow from what is read."""
    logits = model(read(config))[0].flatten(0, 1)
    return F.cross_entropy(logits, tokens(1, len(logits), shape_of(config, V, T)[0], seed=3).flatten())


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


@counted
def test_the_counted_parameters_are_those_of_the_module(config):
    model, _ = empty(config)
    tables = {id(p): p for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    tables |= {id(p): p for name, p in model.named_parameters() if name in ("position", "class_token")}
    head = {id(p): p for p in model.head.parameters()}
    total = sum(p.numel() for p in model.parameters())  # parameters() gives a tied table once
    assert n_params_total(config, *shape(config)) == total
    assert n_params(config, *shape(config)) == total - sum(p.numel() for p in (tables | head).values())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("label", PUBLISHED)
def test_a_full_size_has_as_many_parameters_as_that_of_its_paper_has_elsewhere(label):
    (vocab_size, context), published = PUBLISHED[label]
    assert n_params_total(CONFIGS[label], vocab_size, context) == published


def test_every_full_size_with_a_paper_of_its_own_is_compared():
    large = CONFIGS.keys() - RUN.keys()
    assert large - PUBLISHED.keys() == {"mlp-mlp_large"}, "a perceptron for MNIST, whose count is that of a formula"


@counted
def test_the_non_embedding_count_knows_no_vocabulary_and_of_text_no_context(config):
    assert n_params(config, 257, shape(config)[1]) == n_params(config, 50_257, shape(config)[1])
    if config.objective != "class":
        assert n_params(config, 257, 128) == n_params(config, 50_257, 1024)


@counted
def test_the_counted_flop_of_a_forward_pass_are_those_that_torch_counts(config):
    model, x = (build(config), read(config)) if config in RUN.values() else empty(config)
    with math_attention(), FlopCounterMode(display=False) as counter:
        model(x)
    parts = config.forward_flop(*shape(config))
    assert set(parts) <= {"layers", "attention", "recurrence", "output", "input"}
    flop = sum(flop for part, flop in parts.items() if part not in NOT_COUNTED.get(config.name, set()))
    assert counter.get_total_flops() == pytest.approx(flop * x.numel(), rel=1e-12)


@every
def test_the_output_layer_costs_two_flop_for_each_of_its_weights(config):
    model = build(config)
    with FlopCounterMode(display=False) as counter:
        model(read(config))
    counts = counter.get_flop_counts()[f"{type(model).__name__}.head"]
    predicted = config.forward_flop(*shape(config))["output"] * read(config).numel()
    assert sum(counts.values()) == pytest.approx(predicted, rel=1e-12)


@every
def test_a_training_step_costs_three_forward_passes_but_for_the_gradient_of_an_image(config):
    model = build(config)
    with math_attention(), FlopCounterMode(display=False) as forward:
        model(read(config))
    with math_attention(), FlopCounterMode(display=False) as both:
        loss_of(model, config).backward()
    parts = config.forward_flop(*shape(config))
    unneeded = parts.get("input", 0.0)
    saved = unneeded * read(config).numel()
    assert both.get_total_flops() == pytest.approx(3 * forward.get_total_flops() - saved, rel=1e-12)
    assert flop_per_token(config, *shape(config)) == 3 * sum(parts.values()) - unneeded


@causal
def test_no_logit_depends_on_a_later_token(config):
    model = build(config).double()
    seen = influence(model, tokens())
    assert torch.equal(seen.triu(1), torch.zeros_like(seen)), "exactly zero above the diagonal"
    assert (seen[torch.tril(torch.ones(T, T, dtype=torch.bool))] > 0).all(), "and every earlier token counts"


@causal
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


@bidirectional
def test_every_logit_depends_on_every_token(config):
    assert (influence(build(config).double(), tokens()) > 0).all()


@of_images
def test_the_class_depends_on_every_value_of_the_image(config):
    model = build(config).double().eval()
    images = read(config, 1)
    with torch.no_grad():
        others = images.repeat(images.shape[1], 1)
        others.fill_diagonal_(0).add_(torch.diag((images[0] + 128) % 256))
        moved = (model(others)[0] - model(images)[0]).abs().amax((1, 2))
    # a unit of ReLUs or a maximum may hide a pixel of one image from the output
    assert (moved > 0).double().mean() > 0.9


@of_images
def test_an_image_of_another_size_is_refused_in_words(config):
    with pytest.raises(ValueError, match="no square image has 65 values"):
        config.check(10, 65)
    with pytest.raises(ValueError, match="reads images of 64 values, not 16"):
        build(config)(tokens(2, 16))


@of_images
@pytest.mark.parametrize("seed", [0, 1])
def test_a_class_is_a_guess_at_the_start(config, seed):
    model = build(config, seed=seed)
    with torch.no_grad():
        logits = model(read(config, 64))[0][:, 0]
    loss = F.cross_entropy(logits, torch.arange(64) % 10).item()
    assert loss == pytest.approx(math.log(10), rel=0.15)


@of_text
@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_at_the_start_is_that_of_guessing(config, seed):
    model = build(config, 64, 257, seed)
    x, y = tokens(8, 64, 257), tokens(8, 64, 257, seed=2)
    with torch.no_grad():
        loss = F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())
    assert loss.item() == pytest.approx(math.log(257), rel=0.05)


@of_text
def test_one_logit_for_each_token_and_each_word(config):
    model = build(config)
    for batch, context in ((B, T), (1, T), (3, 5), (1, 1)):
        assert model(tokens(batch, context))[0].shape == (batch, context, n_outputs(config))


@of_images
def test_one_logit_for_each_image_and_each_class(config):
    model = build(config)
    for batch in (3, 2):
        assert model(read(config, batch))[0].shape == (batch, 1, 10)


@every
def test_the_rows_of_a_batch_are_independent_where_no_batch_statistics_are_wanted(config):
    model = build(config).double()

    def same() -> bool:
        with torch.no_grad():
            whole, part = model(read(config, 4))[0][2:], model(read(config, 4)[2:])[0]
        return torch.allclose(whole, part, rtol=1e-12, atol=1e-12)

    assert same() != config.batch_statistics
    model.eval()
    assert same()


@every
def test_a_seed_decides_the_initial_weights(config):
    first, again, other = build(config, seed=5), build(config, seed=5), build(config, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    with torch.no_grad():
        assert torch.equal(first(read(config))[0], again(read(config))[0])


@every
def test_the_state_says_whether_a_model_streams(config):
    model = build(config)
    _, state = model(read(config), None)
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
    for model in (single, moved, doubled):
        model.eval()  # two images of noise have next to no variance where the maps are smallest
    x = read(config)
    with torch.no_grad():
        assert torch.equal(moved(x)[0], doubled(x)[0])
        assert moved(x)[0].dtype == torch.float64
        torch.testing.assert_close(single(x)[0].double(), moved(x)[0], rtol=1e-4, atol=1e-5)


@every
def test_every_parameter_learns(config):
    model = build(config)
    loss_of(model, config).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@of_text
def test_a_tied_output_layer_is_the_token_table(config):
    if "tied" not in type(config).model_fields:
        pytest.skip("cannot be tied")
    weights = [m.weight for m in build(config).modules() if isinstance(m, nn.Embedding | nn.Linear)]
    tables = [w for w in weights if w.shape[0] == n_outputs(config)]
    assert len(tables) == 2
    assert (tables[0] is tables[1]) == config.tied


@every
def test_an_unknown_preset_lists_the_known_ones(config):
    with pytest.raises(ValueError, match=r"unknown preset 'futuristic'; known: "):
        type(config).preset("futuristic")


@pytest.mark.parametrize("name", [n for n in architectures if "dropout" in architectures[n].model_fields])
def test_dropout_is_for_training_alone(name):
    config = architectures[name](dropout=0.5)
    model, x = build(config), read(config)
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(model(x)[0], model(x)[0])
        model.eval()
        assert torch.equal(model(x)[0], model(x)[0])
    plain = build(architectures[name]())
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(plain.eval()(x)[0], model(x)[0])

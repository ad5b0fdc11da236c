"""A budget is split as the papers say, for models that can be built, and the row says how far off it is."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprogress.ablations.accounting import flop_per_token, n_params, n_params_total
from algoprogress.ablations.allocation import Chinchilla, FixedRatio, Kaplan, allocate, allocations, isoflop
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.transformer import Transformer

MODELS = [m for m in (architectures[name]() for name in architectures) if m.objective != "class"] + [
    Transformer(width=w) for w in (16, 128)
]


def family(width: int) -> Transformer:
    return Transformer.preset("modern", width=width)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.floats(1e10, 1e16), st.sampled_from((128, 1024, 4096)))
def test_an_isoflop_row_is_at_most_half_a_batch_from_its_budget(compute, batch_tokens):
    for row, model in zip(isoflop(compute, MODELS, batch_tokens=batch_tokens), MODELS, strict=True):
        per_token = flop_per_token(model, 257, 128)
        assert row.architecture == model
        assert row.tokens % batch_tokens == 0
        assert row.compute == per_token * row.tokens
        assert abs(row.compute - compute) <= 0.5 * per_token * batch_tokens * (1 + 1e-9)
        assert row.compute_error == row.compute / row.budget - 1
        assert row.budget == compute
        assert (row.n_params, row.n_params_total) == model.parameters(257, 128)


def test_larger_models_of_a_row_get_fewer_tokens():
    rows = isoflop(1e12, [family(width) for width in (16, 32, 64, 128)])
    assert [r.tokens for r in rows] == sorted((r.tokens for r in rows), reverse=True)
    assert [r.n_params for r in rows] == sorted(r.n_params for r in rows)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.name}-{m.width}")
def test_a_budget_of_less_than_a_batch_says_what_to_take_instead(model):
    cost = flop_per_token(model, 257, 128) * 2048
    with pytest.raises(ValueError, match=r"more than the budget .*: take a smaller model or batch"):
        isoflop(0.49 * cost, [model])
    assert isoflop(0.51 * cost, [model])[0].tokens == 2048


@pytest.mark.parametrize("compute", [0.0, -1e12, math.nan, math.inf])
def test_a_budget_is_a_positive_number(compute):
    with pytest.raises(ValueError, match="a budget is a positive number of FLOP"):
        isoflop(compute, MODELS)


@pytest.mark.parametrize("name", list(allocations))
def test_every_rule_gives_more_parameters_to_more_compute(name):
    rule = allocations[name]()
    sizes = [rule.ideal_n_params(c) for c in (1e9, 1e12, 1e18, 1e24)]
    assert sizes == sorted(sizes)
    assert sizes[0] > 0


def test_kaplan_grows_as_the_0_73th_power_from_1_3_billion_at_a_petaflop_day():
    rule = Kaplan()
    assert rule.ideal_n_params(1e15 * 86_400) == pytest.approx(1.3e9)
    slope = math.log(rule.ideal_n_params(1e22) / rule.ideal_n_params(1e12)) / math.log(1e10)
    assert slope == pytest.approx(0.73)
    assert rule.counts == "n_params"


@pytest.mark.parametrize(
    ("rule", "ratio"), [(Chinchilla(), 20), (Chinchilla(tokens_per_param=33), 33), (FixedRatio(), 40)]
)
def test_a_ratio_of_tokens_to_parameters_is_recovered_from_the_size(rule, ratio):
    for compute in (1e12, 1e18, 5.76e23):
        n = rule.ideal_n_params(compute)
        assert compute / (6 * n) / n == pytest.approx(ratio)


def test_chinchilla_gives_chinchilla():
    # 70e9 parameters and 1.4e12 tokens: Hoffmann et al. 2022
    assert Chinchilla().ideal_n_params(6 * 70e9 * 1.4e12) == pytest.approx(70e9)
    assert Chinchilla().counts == "n_params_total"


@pytest.mark.parametrize("name", list(allocations))
def test_allocate_picks_the_size_that_is_nearest_in_log(name):
    rule, widths = allocations[name](), range(16, 1025, 16)
    count = {"n_params": n_params, "n_params_total": n_params_total}[rule.counts]
    for compute in (1e14, 1e15, 1e16):
        row = allocate(compute, rule, family, widths)
        ideal = rule.ideal_n_params(compute)
        distance = {w: abs(math.log(count(family(w), 257, 128) / ideal)) for w in widths}
        assert row.architecture == family(min(distance, key=distance.__getitem__))
        assert getattr(row, rule.counts) == count(row.architecture, 257, 128)
        assert abs(row.compute_error) <= 0.5 * flop_per_token(row.architecture, 257, 128) * 2048 / compute
        assert row == allocate(compute, rule, family, list(reversed(widths)))


def test_between_two_sizes_the_geometric_mean_decides():
    low, high = (n_params_total(family(w), 257, 128) for w in (32, 256))
    for ideal, width in ((0.95 * math.sqrt(low * high), 32), (1.05 * math.sqrt(low * high), 256)):
        compute = 6 * 20 * ideal**2  # Chinchilla's rule the other way round
        assert allocate(compute, Chinchilla(), family, (32, 256)).architecture.width == width


@pytest.mark.parametrize("widths", [(16,), (2048, 4096)])
def test_a_size_that_no_width_offers_is_refused_with_what_there_is(widths):
    with pytest.raises(ValueError, match=r"chinchilla asks for .* widen the widths or change the budget"):
        allocate(1e15, Chinchilla(), family, widths)

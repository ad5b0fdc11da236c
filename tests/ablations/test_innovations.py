"""What every innovation promises: it can be trained, it changes the fields that it names and no others, and its FLOP
and parameters are counted as the module has them."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from algoprogress.ablations.accounting import flop_per_token, n_params_total
from algoprogress.ablations.innovations import INNOVATIONS, Innovation, changed, has
from algoprogress.ablations.ladder import modern, retro
from algoprogress.ablations.ops import math_attention
from algoprogress.ablations.presets import DEFAULT, PRESETS
from algoprogress.ablations.spec import RunSpec
from algoprogress.ablations.studies.ablations import toggled
from algoprogress.ablations.studies.historical_order import after, steps
from algoprogress.ablations.studies.interactions import design
from algoprogress.ablations.study import flatten, studies

RECIPES = {"modern": modern(PRESETS[DEFAULT]), "retro": retro(PRESETS[DEFAULT])}
BUDGET = 1e11  # FLOP: two heads
ASKED = [
    (f"{base}-{name}", RECIPES[base], innovation)
    for name, innovation in INNOVATIONS.items()
    for base in RECIPES
    if innovation.asked_in == "ablations" and toggled(RECIPES[base], innovation)
]
every = pytest.mark.parametrize("innovation", INNOVATIONS.values(), ids=INNOVATIONS)
asked = pytest.mark.parametrize(("base", "innovation"), [a[1:] for a in ASKED], ids=[a[0] for a in ASKED])


def with_and_without(base, innovation: Innovation) -> tuple[RunSpec, RunSpec]:
    found = toggled(base, innovation)
    assert found is not None
    return base(BUDGET), found[1](BUDGET)


def same_field(path: str, named: str) -> bool:
    """`optimizer.beta1` is of the field `optimizer`; what comes with another schedule is of `schedule.name`."""
    return path == named or path.startswith(
        (f"{named}.", named.removesuffix("name") if named.endswith("name") else "?")
    )


@every
def test_an_innovation_is_dated_and_cited_and_a_published_gain_has_a_source(innovation):
    assert 1951 <= innovation.year <= 2026
    assert any(character.isdigit() for character in innovation.paper), "a year"
    assert bool(innovation.source) == (innovation.published is not None)
    assert innovation.before.keys() == innovation.after.keys()
    assert innovation.before != innovation.after
    assert innovation.asked_in in ("", *studies)


def test_the_list_is_in_order_of_years():
    years = [innovation.year for innovation in INNOVATIONS.values()]
    assert years == sorted(years)


def test_every_innovation_that_the_ablations_ask_about_is_in_one_of_the_two_recipes_or_can_be_put_into_it():
    of_ablations = {name for name, innovation in INNOVATIONS.items() if innovation.asked_in == "ablations"}
    assert of_ablations - {innovation.name for _, _, innovation in ASKED} == {"momentum"}, "needs plain SGD before it"


@asked
def test_an_innovation_changes_the_fields_that_it_names_and_no_others(base, innovation):
    one, other = (flatten(spec.model_dump()) for spec in with_and_without(base, innovation))
    differing = {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
    for path in differing:
        assert any(same_field(path, named) for named in innovation.after), path
    for named in innovation.after:
        assert any(same_field(path, named) for path in differing), named


@asked
def test_taking_an_innovation_out_and_putting_it_in_are_each_others_inverse(base, innovation):
    spec, other = with_and_without(base, innovation)
    there = innovation.after if has(spec, innovation.after) else innovation.before
    assert has(spec, there)
    assert not has(other, there)
    assert changed(other, there) == spec


@asked
def test_a_run_with_or_without_it_trains(base, innovation):
    _, spec = with_and_without(base, innovation)
    torch.manual_seed(0)
    model = spec.architecture.build(257, 32)
    optimizer = spec.optimizer.build(model, 0.01)
    x = torch.randint(257, (4, 33), generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(model(x[:, :-1])[0].flatten(0, 1), x[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


@asked
def test_its_parameters_and_flop_are_those_of_the_module(base, innovation):
    _, spec = with_and_without(base, innovation)
    model: nn.Module = spec.architecture.build(257, 128)
    x = torch.randint(257, (1, 128), generator=torch.Generator().manual_seed(1))
    with math_attention(), FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(x)[0].flatten(0, 1), x.flatten()).backward()
    assert counter.get_total_flops() == flop_per_token(spec.architecture, 257, 128) * 128
    assert n_params_total(spec.architecture, 257, 128) == sum(p.numel() for p in model.parameters())


def test_experts_that_a_token_does_not_pass_count_as_parameters_and_not_as_flop():
    plain = modern(PRESETS[DEFAULT])(BUDGET).architecture
    routed = type(plain)(**{**plain.model_dump(), "experts": 4, "experts_per_token": 1})
    router = plain.width * 4 * plain.n_layers
    assert routed.forward_flop(257, 128)["layers"] == plain.forward_flop(257, 128)["layers"] + 2 * router
    assert routed.parameters(257, 128)[0] - routed.idle_parameters() == plain.parameters(257, 128)[0] + router
    assert flop_per_token(routed, 257, 128, "6n") == flop_per_token(plain, 257, 128, "6n") + 6 * router


def test_a_field_that_a_run_does_not_have_is_named():
    with pytest.raises(ValueError, match=r"a run of transformer by adam has no field architecture\.forget_bias"):
        changed(retro(PRESETS[DEFAULT])(BUDGET), {"architecture.forget_bias": 1.0})


def test_the_historical_order_leads_from_the_recipe_of_2017_to_that_of_2023():
    names = steps(RECIPES["retro"], RECIPES["modern"])
    assert after(RECIPES["retro"], names)(BUDGET) == RECIPES["modern"](BUDGET)
    assert [INNOVATIONS[name].year for name in names] == sorted(INNOVATIONS[name].year for name in names)


def test_the_factorial_is_balanced_and_its_main_effects_are_clear_of_each_other_and_of_pairs():
    rows = design()
    names = list(rows[0])
    columns = {name: [row[name] for row in rows] for name in names}
    assert len(rows) == 16
    assert all(sum(column) == 0 for column in columns.values())

    def product(*of: str) -> int:
        total = 0
        for k in range(16):
            sign = 1
            for name in of:
                sign *= columns[name][k]
            total += sign
        return total

    for a in names:
        for b in names:
            assert a == b or product(a, b) == 0
            for c in names:
                assert len({a, b, c}) < 3 or product(a, b, c) == 0, "resolution IV"


def test_the_factorial_holds_both_recipes():
    study = studies["interactions"]()
    mains = [study.main[arm][0].spec for arm in (next(iter(study.arms)), list(study.arms)[-1])]
    assert mains[0].architecture == RECIPES["retro"](study.main["retro"][0].compute_budget).architecture
    assert mains[1].architecture == RECIPES["modern"](study.main[list(study.arms)[-1]][0].compute_budget).architecture


CONSEQUENCES = {"tokens", "learning_rate"}  # of equal compute, and of tuning
SIZES = {"architecture.width", "architecture.n_layers", "architecture.init_std"}
NAMED: dict[str, set[str]] = {
    "kaplan_vs_chinchilla": SIZES | {"schedule.name", "schedule.warmup", "schedule.final", "batch_tokens", "seed"},
    "lstm_vs_transformer": SIZES | {"architecture", "optimizer", "schedule", "evaluation.state"},
    "optimizer_swap": {"optimizer", "schedule"},
}


@pytest.mark.parametrize("name", ["ablations", "historical_order", "interactions", *NAMED])
def test_arms_differ_in_what_the_study_names_and_in_nothing_else(name):
    study = studies[name]()
    for arm, fields in study.differences().items():
        innovation = study.innovations.get(arm, {}).get("innovation")
        if innovation is not None:
            named = set(INNOVATIONS[innovation].after)
        elif name in NAMED:
            named = NAMED[name]
        else:  # several innovations at once: each field is one of theirs
            named = {field for i in INNOVATIONS.values() for field in i.after if i.asked_in == "ablations"}
            named |= {"schedule.name", "optimizer"}
        # baselines have more budgets than arms: their larger sizes are no difference of the recipe
        sizes = SIZES | {"batch_tokens"}
        for field in fields.keys() - CONSEQUENCES - sizes:
            assert any(same_field(field, other) for other in named), (arm, field)
        assert json.dumps(fields)


@pytest.mark.parametrize("name", ["ablations", "historical_order", "interactions", "optimizer_swap"])
def test_arms_of_one_budget_have_one_size(name):
    sizes: dict[float, set] = {}
    study = studies[name]()
    for entries in [*study.arms.values(), *study.main.values()]:
        for e in entries:
            sizes.setdefault(e.compute_budget, set()).add((e.spec.architecture.width, e.spec.architecture.n_layers))
    assert all(len(found) == 1 for found in sizes.values())


def test_two_studies_share_the_runs_of_recipes_that_they_have_in_common():
    ablated, ordered = studies["ablations"](), studies["historical_order"]()
    assert list(ablated.main["retro"]) == list(ordered.main["retro"])
    assert list(ablated.arms["retro"]) == list(ordered.arms["retro"])

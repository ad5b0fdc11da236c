"""Names are looked up in one way, and a wrong one says what there is."""

import pytest

from algoprogress.ablations.allocation import allocations
from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.registry import Registry
from algoprogress.ablations.reparameterizations import reparameterizations
from algoprogress.ablations.schedules import schedules
from algoprogress.ablations.study import studies

ALL = [allocations, architectures, optimizers, reparameterizations, schedules, studies]
FILLED = [registry for registry in ALL if list(registry)]
by_kind = pytest.mark.parametrize("registry", FILLED, ids=lambda registry: registry.kind)


def test_nothing_but_reparameterizations_may_be_empty():
    assert {r.kind for r in ALL} - {r.kind for r in FILLED} <= {"reparameterization"}


@by_kind
def test_an_unknown_name_lists_the_known_ones_with_the_nearest(registry):
    for name in registry:
        with pytest.raises(ValueError, match=f"unknown {registry.kind}") as error:
            registry[name + "x"]
        assert all(known in str(error.value) for known in registry)
        assert "did you mean" in str(error.value)


@by_kind
@pytest.mark.parametrize("name", ["", "zzzzzz", None, 3, ["sgd"]], ids=repr)
def test_a_name_that_is_like_no_other_lists_the_known_ones(registry, name):
    with pytest.raises(ValueError, match=", ".join(registry)):
        registry[name]


@by_kind
def test_a_name_is_a_member_and_looks_up_one_thing(registry):
    assert len(set(registry)) == len(list(registry)) == len({id(registry[name]) for name in registry})
    assert all(name in registry for name in registry)
    assert "no such thing" not in registry


@pytest.mark.parametrize("registry", [r for r in FILLED if r.kind != "study"], ids=lambda registry: registry.kind)
def test_a_config_carries_the_name_it_is_registered_under(registry):
    assert [registry[name].model_fields["name"].default for name in registry] == list(registry)


def test_two_things_of_one_name_are_refused():
    registry: Registry[int] = Registry("number", "math")
    registry.register("one")(1)
    with pytest.raises(ValueError, match="two numbers are called 'one'"):
        registry.register("one")(2)

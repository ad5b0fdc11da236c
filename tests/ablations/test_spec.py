"""A run's identity is its science: the same everywhere, and changed by every field that changes what is computed."""

import hashlib
import math
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import data_of
from pydantic import Field, ValidationError

from algoprogress.ablations.architectures import architectures
from algoprogress.ablations.architectures.lstm import LSTM
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.config import Config
from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.clipping import CoordinateClipping
from algoprogress.ablations.optimizers.sgd import SGD
from algoprogress.ablations.schedules import WSD, Linear, schedules
from algoprogress.ablations.spec import Data, Evaluation, RunSpec, identity
from algoprogress.ablations.study import flatten

DATA = Data(corpus_sha256="ab" * 32)


def spec(**fields: Any) -> RunSpec:
    return RunSpec.model_validate(
        {"architecture": LSTM(width=32), "tokens": 8192, "learning_rate": 0.01, "data": DATA} | fields
    )


def of_kind(name: str) -> RunSpec:
    """A run of an architecture with its defaults, on what it reads."""
    fields = data_of(architectures[name]())
    data = fields["data"].model_copy(update={"corpus_sha256": DATA.corpus_sha256})
    return spec(architecture=name, **fields | {"data": data})


GOLDEN = {
    "lstm": (spec(), "b69e99e82efb13eebcea", "b69e99e82efb13eebcea"),
    "modern": (
        spec(architecture={"preset": "modern", "width": 48}, optimizer="adam", schedule="inverse_sqrt", seed=3),
        "3d406e54692d0e7b005a",
        "36bfadc58a74e909763d",
    ),
    "retro": (
        spec(
            architecture=Transformer.preset("retro", n_layers=3),
            optimizer={"name": "momentum", "nesterov": True},
            schedule={"name": "wsd", "decay_share": 0.5},
            data=Data(corpus_sha256="ab" * 32, tokenizer="bpe-2048", context=64),
            batch_tokens=1024,
            clip=None,
            dtype="float64",
            evaluation=Evaluation(tokens=4096, times=5),
        ),
        "548d28e7f9d81723a552",
        "548d28e7f9d81723a552",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_identities_are_those_of_every_earlier_version(name):
    # a change here means that every stored run of this recipe would be trained again
    golden, run_id, configuration_id = GOLDEN[name]
    assert (golden.run_id, golden.configuration_id) == (run_id, configuration_id)


def test_an_identity_is_the_hash_of_the_science_in_canonical_json():
    text = (
        '{"architecture":{"name":"lstm","width":32},"data":{"corpus_sha256":"' + "ab" * 32 + '"},'
        '"learning_rate":0.01,"recipe":1,"tokens":8192}'
    )
    assert spec().run_id == hashlib.sha256(text.encode()).hexdigest()[:20]


def test_a_run_id_is_twenty_hex_digits():
    assert len(spec().run_id) == 20
    assert set(spec().run_id) <= set("0123456789abcdef")


@pytest.mark.parametrize("one", [1, 1.0, "1", "1.0", "1e0", 1e0, np.float64(1)])
def test_every_way_to_write_a_number_is_one_identity(one):
    assert spec(learning_rate=one, seed=one).run_id == spec(learning_rate=1.0, seed=1).run_id


def test_negative_zero_is_zero():
    assert spec(architecture=LSTM(forget_bias=-0.0)).run_id == spec(architecture=LSTM(forget_bias=0.0)).run_id


def name(value: object) -> str:
    """The same in every process, without the address of an object."""
    return repr(value).split(" at 0x")[0]


@pytest.mark.parametrize("field", ["learning_rate", "clip", "tokens", "seed"])
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "nan", "inf", math.sqrt, lambda: 1, [1], {"a": 1}, "many"], ids=name
)
def test_what_is_no_finite_number_is_refused(field, value):
    with pytest.raises(ValidationError):
        spec(**{field: value})


@pytest.mark.parametrize("value", [True, 1.5, "1.5", -1])
def test_a_seed_is_a_whole_number(value):
    with pytest.raises(ValidationError):
        spec(seed=value)


@pytest.mark.parametrize("value", [math.sqrt, (1, 2), {1}, object(), b"bytes"], ids=name)
def test_a_value_without_a_portable_form_has_no_identity(value):
    class Loose(Adam):
        extra: Any = None

    with pytest.raises(ValueError, match="no form that is the same everywhere"):
        _ = spec(optimizer=Loose(extra=value)).run_id


@pytest.mark.parametrize("value", [math.nan, math.inf, math.sqrt], ids=repr)
def test_what_was_slipped_past_the_checks_has_no_identity(value):
    with pytest.raises(ValueError):
        _ = spec().model_copy(update={"learning_rate": value}).run_id


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rte": 1},
        {"architecture": {"name": "lstm", "widht": 3}},
        {"architecture": {"preset": "modern", "widht": 3}},
        {"optimizer": {"name": "adam", "beta3": 0.9}},
        {"schedule": {"name": "cosine", "finale": 0.1}},
        {"data": {"corpora": "english"}},
        {"evaluation": {"tokns": 1}},
    ],
    ids=str,
)
def test_an_unknown_key_is_refused(fields):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        spec(**fields)


@pytest.mark.parametrize("field", ["study", "name", "device", "n_threads", "threads", "store", "host"])
def test_where_and_why_a_run_is_trained_are_not_fields_of_it(field):
    with pytest.raises(ValidationError):
        spec(**{field: "x"})


class OtherAdam(Adam):
    amsgrad: bool = False


class OtherLinear(Linear):
    cycles: int = 1


class OtherLSTM(LSTM):
    peepholes: bool = False
    cell_clip: float | None = Field(None, gt=0)


@pytest.mark.parametrize(
    ("field", "before", "after", "changed"),
    [
        ("optimizer", Adam(beta1=0.8), OtherAdam(beta1=0.8), OtherAdam(beta1=0.8, amsgrad=True)),
        ("schedule", Linear(), OtherLinear(), OtherLinear(cycles=2)),
        ("architecture", LSTM(width=24), OtherLSTM(width=24), OtherLSTM(width=24, cell_clip=3)),
    ],
)
def test_a_new_field_with_a_default_keeps_every_old_identity(field, before, after, changed):
    assert spec(**{field: after}).run_id == spec(**{field: before}).run_id
    assert spec(**{field: changed}).run_id != spec(**{field: before}).run_id


def test_a_default_that_is_written_out_changes_nothing():
    written = spec(seed=0, clip=1.0, optimizer={"name": "adamw", "beta1": 0.9}, schedule="cosine", dtype="float32")
    assert written.run_id == spec().run_id
    assert identity(written).keys() == {"recipe", "architecture", "tokens", "learning_rate", "data"}


def test_the_order_of_keys_is_irrelevant():
    fields = spec(architecture=Transformer(width=32, n_layers=3), optimizer=Adam(beta1=0.8)).model_dump()

    def reverse(value: Any) -> Any:
        return {k: reverse(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    assert RunSpec.model_validate(reverse(fields)).run_id == RunSpec.model_validate(fields).run_id


def test_a_preset_is_its_fields():
    short = spec(architecture={"preset": "modern", "width": 32})
    assert short == spec(architecture=Transformer.preset("modern", width=32))
    assert short.run_id == spec(architecture=short.architecture.model_dump()).run_id


def test_two_kinds_with_all_defaults_are_two_identities():
    assert spec(optimizer="sgd").optimizer == SGD()
    assert len({spec(optimizer=name).run_id for name in optimizers}) == len(list(optimizers))
    assert len({spec(schedule=name).run_id for name in schedules}) == len(list(schedules))
    assert len({of_kind(name).run_id for name in architectures}) == len(list(architectures))


def test_a_corpus_counts_by_content_and_not_by_name_or_path():
    here = spec(data=Data(corpus="english", corpus_sha256="ab" * 32))
    there = spec(data=Data(corpus="../texts/english.txt", corpus_sha256="ab" * 32))
    other = spec(data=Data(corpus="english", corpus_sha256="cd" * 32))
    assert here.run_id == there.run_id
    assert here.run_id != other.run_id


def test_a_corpus_that_is_only_a_name_has_no_identity():
    unresolved = spec(data=Data(corpus="english"))
    for name in ("run_id", "configuration_id"):
        with pytest.raises(ValueError, match="not yet a content"):
            getattr(unresolved, name)


def test_a_seed_changes_the_run_and_not_the_configuration():
    first, second = spec(seed=0), spec(seed=1)
    assert first.run_id != second.run_id
    assert first.configuration_id == second.configuration_id
    assert spec(learning_rate=0.02).configuration_id != first.configuration_id


def test_a_spec_is_frozen():
    with pytest.raises(ValidationError):
        spec().seed = 1
    with pytest.raises(ValidationError):
        spec().architecture.width = 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_tokens": 1000}, "not a multiple of the context 128: try 1024"),
        ({"tokens": 5000}, "not a multiple of batch_tokens 2048: try 4096"),
        ({"architecture": Transformer(), "evaluation": {"state": "carry"}}, "no state to carry"),
        ({"data": {"tokenizer": "bpe"}}, "use bytes, gpt2, or bpe-V"),
        ({"optimizer": "adma"}, "did you mean 'adam'"),
        ({"optimizer": {"beta1": 0.9}}, "has no 'name'; known: .*adam"),
        ({"architecture": {"preset": "moderm"}}, "known: retro, modern"),
        ({"architecture": {"name": "lstm", "preset": "modern"}}, "known: none"),
        ({"architecture": {"preset": ["modern"]}}, "unknown preset"),
    ],
    ids=str,
)
def test_a_spec_that_cannot_be_trained_is_refused_with_what_to_do(fields, message):
    with pytest.raises(ValidationError, match=message):
        spec(**fields)


def test_the_vocabulary_follows_from_the_tokenizer():
    assert Data(tokenizer="bytes").vocab_size == 257
    assert Data(tokenizer="bpe-2048").vocab_size == 2048


def other_values(config: Config, name: str) -> list[Any]:
    """Valid or invalid, but other than the value that the field has."""
    value, kind = getattr(config, name), type(config).model_fields[name].annotation
    if get_origin(kind) is Literal:
        return [v for v in get_args(kind) if v != value]
    if name == "tokenizer":
        return ["bpe-300", "pixels-11"]
    if name == "context":
        return [4 * value]  # of an image, twice the side
    if name == "corpus_sha256":
        return ["ef" * 32]
    if name == "clipping":
        return [CoordinateClipping()]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [other for other in (value * 2, value + 1) if other != value]
    return [other for other in (0.75 if value is None else value * 0.5, 0.25, None) if other != value]


def changes(base: RunSpec) -> dict[str, RunSpec]:
    """Dotted field -> the spec with that one field changed, for every field that can be changed alone."""
    changed = {}

    def visit(config: Config, rebuild: Any, prefix: str) -> None:
        for name in type(config).model_fields:
            value = getattr(config, name)
            if isinstance(value, Config):
                visit(value, lambda v, c=config, n=name: rebuild(dict(c) | {n: v}), f"{prefix}{name}.")
                continue
            for other in other_values(config, name) if name not in ("name", "corpus", "reparameterization") else []:
                try:
                    changed[prefix + name] = rebuild(dict(config) | {name: other})
                except ValidationError:
                    continue
                break

    def build(fields: dict[str, Any]) -> RunSpec:
        parts = {k: type(getattr(base, k))(**v) if isinstance(v, dict) else v for k, v in fields.items()}
        return RunSpec(**parts)

    visit(base, build, "")
    return changed


BASES = (
    [of_kind(name) for name in architectures]
    + [spec(optimizer=name) for name in optimizers]
    + [spec(schedule=name) for name in schedules]
)


def test_every_field_of_the_science_changes_the_identity():
    tried = set()
    for base in BASES:
        others = changes(base)
        for field, other in others.items():
            assert other.run_id != base.run_id, f"{field} does not count in the run_id"
            assert (other.configuration_id != base.configuration_id) == (field != "seed"), field
        assert len({o.run_id for o in others.values()}) == len(others)
        tried |= {(base.architecture.name, base.optimizer.name, base.schedule.name, f) for f in others}
    # and no field was passed over because no other value of it could be had
    for base in BASES:
        name = (base.architecture.name, base.optimizer.name, base.schedule.name)
        untried = {f for f in flatten(base.model_dump()) if not f.endswith("name") and (*name, f) not in tried}
        alone = {"data.corpus", "reparameterization"} | (
            {"evaluation.state"} if not base.architecture.streams else set()
        )
        assert untried <= alone


rates = st.floats(1e-6, 10, allow_nan=False)
specs = st.builds(
    RunSpec,
    architecture=st.one_of(
        st.builds(LSTM, width=st.integers(1, 99), forget_bias=st.floats(-2, 2), tied=st.booleans()),
        st.builds(
            Transformer,
            width=st.sampled_from((16, 32, 64)),
            ff_ratio=st.floats(0.5, 8),
            position=st.sampled_from(("learned", "sinusoidal", "rotary")),
        ),
    ),
    tokens=st.integers(1, 1000).map(lambda n: 2048 * n),
    learning_rate=rates,
    optimizer=st.one_of(st.builds(Adam, beta1=st.floats(0, 0.99)), st.just(SGD())),
    schedule=st.one_of(st.builds(Linear, final=st.floats(0, 1)), st.builds(WSD, decay_share=st.floats(0.1, 1))),
    data=st.builds(Data, corpus=st.text(max_size=5), corpus_sha256=st.sampled_from(("ab" * 32, "cd" * 32))),
    clip=st.one_of(st.none(), st.floats(0.1, 10)),
    seed=st.integers(0, 2**31),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(specs)
def test_identity_depends_on_values_alone(any_spec):
    assert RunSpec.model_validate(any_spec.model_dump()).run_id == any_spec.run_id
    from_json = RunSpec.model_validate_json(any_spec.model_dump_json())
    assert from_json == any_spec
    assert (from_json.run_id, from_json.configuration_id) == (any_spec.run_id, any_spec.configuration_id)
    assert (
        any_spec.model_copy(update={"data": any_spec.data.model_copy(update={"corpus": "x"})}).run_id
        == from_json.run_id
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(specs)
def test_any_change_of_one_field_is_another_identity(any_spec):
    others = changes(any_spec)
    assert len({any_spec.run_id, *(other.run_id for other in others.values())}) == len(others) + 1

"""A batch that grows: the same tokens and FLOP in more steps, the schedule by tokens, and streams for each stage."""

from __future__ import annotations

import json

import numpy as np
import pytest

from algoprogress.ablations.batch_warmup import stages
from algoprogress.ablations.innovations import INNOVATIONS, changed, has
from algoprogress.ablations.spec import identity
from algoprogress.pipeline.batches import starts
from algoprogress.pipeline.ensembles.choice import shape
from algoprogress.pipeline.trainer import train

both = pytest.mark.parametrize("architecture", ["transformer", "lstm"])


def growing(make_spec, architecture="transformer", **changes):
    return make_spec(architecture, batch_stages=3, **changes)  # 64, 128 and 256 tokens, two to eight contexts


def test_batches_double_until_they_are_whole_at_a_quarter_of_the_tokens():
    of = stages(40 * 256, 256, 3)
    assert [(s.steps, s.batch_tokens) for s in of] == [(20, 64), (10, 128), (30, 256)]
    assert of[-1].start == 40 * 256 // 4
    assert sum(s.steps * s.batch_tokens for s in of) == 40 * 256


@pytest.mark.parametrize("whole", [1, 3, 7, 41])
@pytest.mark.parametrize("n_stages", [1, 2, 4])
def test_tokens_are_those_of_whole_batches_however_few_there_are(whole, n_stages):
    of = stages(whole * 256, 256, n_stages)
    assert sum(s.steps * s.batch_tokens for s in of) == whole * 256
    assert [s.start for s in of] == [sum(p.steps * p.batch_tokens for p in of[:k]) for k in range(n_stages)]


@both
def test_tokens_and_flop_are_equal_and_the_schedule_goes_by_tokens(make_spec, architecture):
    fixed, grown = make_spec(architecture), growing(make_spec, architecture)
    assert (grown.tokens, grown.compute) == (fixed.tokens, fixed.compute)
    assert grown.steps == 60 > fixed.steps
    assert grown.tokens_after(grown.steps) == grown.tokens
    by_tokens = {fixed.tokens_after(step): fixed.learning_rate_at(step) for step in range(fixed.steps)}
    met = [step for step in range(grown.steps) if grown.tokens_after(step) in by_tokens]
    assert len(met) == fixed.steps
    for step in met:
        assert grown.learning_rate_at(step) == by_tokens[grown.tokens_after(step)]


@both
def test_every_token_is_read_once_as_with_whole_batches(make_spec, architecture):
    spec = growing(make_spec, architecture)
    order = starts(spec, 10**6)
    assert [len(row) for row in order] == [2] * 20 + [4] * 10 + [8] * 30
    whole = starts(make_spec(architecture), 10**6).reshape(-1)
    flat = np.concatenate(list(order))
    assert sorted(flat) == sorted(whole)
    if architecture == "transformer":
        assert (flat == whole).all()


def test_each_stream_goes_on_where_it_ended_within_its_stage(make_spec):
    spec = growing(make_spec, "lstm")
    order, first = starts(spec, 10**6), 0
    for stage in spec.stages:
        rows = np.stack(order[first : first + stage.steps])
        assert set(np.unique(np.diff(rows, axis=0))) <= {spec.data.context, spec.data.context - spec.tokens}
        first += stage.steps


@both
@pytest.mark.parametrize(("batches", "small"), [(40, 20), (32, 16), (16, 8)])
def test_a_run_resumed_before_at_or_after_a_change_of_its_batch_equals_an_uninterrupted_one(
    make_spec, tokens, killed_at_its_first_checkpoint, architecture, batches, small
):
    spec = make_spec(architecture, batch_stages=2, tokens=batches * 256)
    assert spec.stages[0].steps == small
    whole = train(spec, tokens)
    assert (whole.record["status"], whole.record["tokens"]) == ("done", spec.tokens)
    path, kept = killed_at_its_first_checkpoint(spec, tokens)
    assert kept["step"] == 16
    again = train(spec, tokens, checkpoint_path=path)
    assert again.record["loss"] == whole.record["loss"]
    assert again.curve.drop(columns="wall_seconds").equals(whole.curve.drop(columns="wall_seconds"))
    assert whole.curve["tokens"].iloc[-1] == spec.tokens
    assert (whole.curve["tokens"] == [spec.tokens_after(step) for step in whole.curve["step"]]).all()


def test_parts_of_a_batch_are_no_more_than_its_sequences(make_spec, tokens):
    a, b = (train(growing(make_spec), tokens, micro_batches=n).record["loss"] for n in (1, 8))
    assert a == pytest.approx(b, rel=1e-3)


def test_a_run_whose_batch_grows_is_trained_alone(make_spec):
    assert shape(growing(make_spec)) is None
    assert shape(make_spec()) is not None


def test_a_batch_of_one_size_leaves_the_identity_as_it_was(make_spec):
    assert "batch_stages" not in json.dumps(identity(make_spec()))
    assert make_spec(batch_stages=1).run_id == make_spec().run_id != growing(make_spec).run_id


def test_a_batch_that_is_too_small_to_begin_with_less_is_refused(make_spec):
    with pytest.raises(ValueError, match=r"take a multiple of 1024 tokens, or fewer stages"):
        make_spec(batch_stages=6)
    with pytest.raises(ValueError, match="leave batch_stages at 1"):
        make_spec(batch_stages=2, reparameterization={"name": "poet_fs"})


def test_the_innovation_halves_the_batch_for_the_first_quarter(make_spec):
    spec = make_spec()
    warmed = changed(spec, INNOVATIONS["batch_warmup"].after)
    assert has(spec, INNOVATIONS["batch_warmup"].before)
    assert [s.batch_tokens for s in warmed.stages] == [128, 256]

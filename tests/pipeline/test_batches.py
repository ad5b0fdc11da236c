"""What a run reads."""

from __future__ import annotations

import numpy as np
import pytest

from algoprogress.pipeline.batches import starts


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_a_run_of_d_tokens_reads_each_of_the_first_d_tokens_once(make_spec, architecture):
    spec = make_spec(architecture)
    order = starts(spec, n_tokens=10**6)
    read = (order.reshape(-1)[:, None] + np.arange(spec.data.context)).reshape(-1)
    assert sorted(read) == list(range(spec.tokens))


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_a_longer_run_reads_all_that_a_shorter_one_reads(make_spec, architecture):
    short, long = (set(starts(make_spec(architecture, tokens=n * 256), 10**6).reshape(-1)) for n in (10, 40))
    assert short < long


def test_each_stream_goes_on_where_it_ended(make_spec):
    spec = make_spec("lstm")
    order = starts(spec, 10**6)
    jumps = np.diff(order, axis=0)
    # one context further, except where a stream runs over the end of the tokens to their start
    assert set(np.unique(jumps)) <= {spec.data.context, spec.data.context - spec.tokens}


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_the_seed_decides_the_order(make_spec, architecture):
    a, b, again = (starts(make_spec(architecture, seed=s), 10**6) for s in (0, 1, 0))
    assert (a == again).all()
    assert (a != b).any()


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_beyond_one_epoch_every_window_comes_again(make_spec, architecture):
    spec = make_spec(architecture)
    order = starts(spec, n_tokens=spec.tokens // 2 + 1)
    _, count = np.unique(order, return_counts=True)
    assert set(count) == {2}
    assert order.max() + spec.data.context < spec.tokens // 2 + 1


def test_a_corpus_shorter_than_a_batch_is_refused(make_spec):
    with pytest.raises(ValueError, match="less than one batch"):
        starts(make_spec(), n_tokens=200)

"""What a run reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from algoprogress.pipeline.batches import Batches, starts


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


@pytest.fixture
def some():
    """(tokens of each stored width, whose largest value needs the highest bit, and an order of batches)."""
    order = np.random.default_rng(0).integers(0, 900, (5, 4))
    return [
        (np.arange(1000).astype(dtype) + np.array(2**bits - 1000, dtype), order)
        for dtype, bits in ((np.uint16, 16), (np.uint32, 32))
    ]


def expected(tokens, order, step, context):
    return np.stack([tokens[at : at + context + 1] for at in order[step]]).astype(np.int64)


@pytest.mark.parametrize("where", ["gathered", "resident", "prefetched"])
def test_a_batch_is_the_tokens_at_its_starts_wherever_they_are_kept(some, where):
    for tokens, order in some:
        batches = Batches(tokens, order, 7, torch.device("cpu"))
        if where == "resident":
            batches.move()  # what a GPU with room does
        get = batches.ahead if where == "prefetched" else batches.__getitem__
        for step in (0, 1, 2, 4, 3):  # a resumed run begins anywhere
            batch = get(step)
            assert batch.dtype == torch.int64
            np.testing.assert_array_equal(batch.numpy(), expected(tokens, order, step, 7))


def test_batches_of_several_runs_are_those_of_each_and_of_those_that_are_kept(some):
    tokens, order = some[0]
    orders = [order, order[::-1], order + 1]
    several = Batches(tokens, np.stack(orders, axis=1), 7, torch.device("cpu"))
    for get in (several.__getitem__, several.ahead):
        for k, batch in enumerate(get(2)):
            np.testing.assert_array_equal(batch.numpy(), expected(tokens, orders[k], 2, 7))
    several.keep([0, 2])
    for get in (several.__getitem__, several.ahead):
        for k, batch in zip((0, 2), get(3), strict=True):
            np.testing.assert_array_equal(batch.numpy(), expected(tokens, orders[k], 3, 7))


def test_the_next_batch_is_sent_while_the_present_one_is_trained_on(some):
    tokens, order = some[0]
    batches = Batches(tokens, order, 7, torch.device("cpu"))
    sent = []
    send = batches._send
    batches._send = lambda step: sent.append(step) or send(step)
    batches.ahead(0)
    assert sent == [0, 1]
    batches.ahead(1)
    assert sent == [0, 1, 2]
    batches.ahead(2), batches.ahead(3), batches.ahead(4)
    assert sent == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("free", "resident"), [(10**9, True), (10**4, False)])
def test_a_gpu_keeps_tokens_that_take_a_tenth_of_its_free_memory(some, monkeypatch, free, resident):
    moved = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr(Batches, "move", lambda self: moved.append(True))
    Batches(some[0][0], some[0][1], 7, torch.device("cuda"))
    assert bool(moved) == resident

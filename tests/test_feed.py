"""Splitting over devices, and the thread that sends batches ahead."""

import itertools
import threading
import time

import jax
import numpy as np
import pytest
from jax import lax

from jaxseg.engine import feed
from jaxseg.errors import UserError


def batch(step, number=4):
    return {
        "source_image": np.full((number, 3, 5, 3), step, np.uint8),
        "source_label": np.full((number, 3, 5), 255, np.uint8),
        "id": ["a"] * number,
    }


class Stream:
    """Endless batches that count how many were drawn and remember being closed."""

    def __init__(self, fail_at=None):
        self.drawn, self.closed, self.fail_at = 0, False, fail_at

    def __iter__(self):
        return self

    def __next__(self):
        if self.drawn == self.fail_at:
            raise UserError("image x is damaged")
        self.drawn += 1
        return batch(self.drawn - 1)

    def close(self):
        self.closed = True


def test_shard():
    host = {"image": np.arange(12, dtype=np.uint8).reshape(4, 3), "label": np.zeros(4, np.uint8)}
    found = feed.shard({**host, "id": list("abcd")}, jax.local_devices())
    assert set(found) == {"image", "label"}
    np.testing.assert_array_equal(found["image"], host["image"][[[0, 2], [1, 3]]])
    assert found["image"].dtype == np.uint8 and found["label"].dtype == np.int32


def test_an_indivisible_batch_is_one_clear_line():
    with pytest.raises(UserError, match="batch of 3 .*2 devices.*multiple of 2"):
        feed.shard(batch(0, 3), jax.local_devices())
    with (
        feed.Prefetch([batch(0, 3)], jax.local_devices()) as batches,
        pytest.raises(UserError, match="multiple of 2"),
    ):
        next(batches)


def test_pmap_takes_the_batches_as_they_lie():
    devices = jax.local_devices()
    assert len(devices) == 2
    update = jax.pmap(
        lambda state, batch: state + lax.pmean(batch["source_image"].mean(), "devices"),
        "devices",
        in_axes=(None, 0),
        out_axes=None,
        donate_argnums=0,
    )
    state = jax.jit(lambda: jax.numpy.float32(0))()
    with feed.Prefetch(Stream(), devices) as batches:
        for step in range(4):
            sent = next(batches)
            shards = sent["source_label"].addressable_shards
            assert [shard.device for shard in shards] == devices
            assert {shard.data.shape for shard in shards} == {(1, 2, 3, 5)}
            if step == 0:
                state = update(state, sent)  # compiles, and places the state
                continue
            with jax.transfer_guard("disallow"):  # nothing is moved any more
                state = update(state, sent)
    assert float(state) == 0 + 1 + 2 + 3


def test_order_end_and_depth():
    devices = jax.local_devices()
    with feed.Prefetch((batch(i) for i in range(5)), devices) as batches:
        seen = [int(sent["source_image"][0, 0, 0, 0, 0]) for sent in batches]
    assert seen == [0, 1, 2, 3, 4]
    stream = Stream()
    with feed.Prefetch(stream, devices, depth=2) as batches:
        for _ in range(3):
            next(batches)
        time.sleep(0.5)
        # Three fetched, two ready, one in the sender's hand.
        assert stream.drawn <= 6


def test_an_exception_arrives_after_the_batches_before_it():
    batches = feed.Prefetch(Stream(fail_at=2), jax.local_devices())
    assert len(list(itertools.islice(batches, 2))) == 2
    with pytest.raises(UserError, match="image x is damaged"):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)


def test_devices_that_do_not_fit_are_told_too(monkeypatch):
    def refuse(*_):
        raise RuntimeError("no such mesh")

    monkeypatch.setattr(feed, "Mesh", refuse)
    stream = Stream()
    with feed.Prefetch(stream, jax.local_devices()) as batches:
        with pytest.raises(RuntimeError, match="no such mesh"):
            next(batches)
    assert stream.closed


def test_closing_ends_the_thread_and_the_stream():
    before = threading.active_count()
    stream = Stream()
    batches = feed.Prefetch(stream, jax.local_devices())
    next(batches)
    batches.close()
    assert stream.closed and threading.active_count() == before
    with pytest.raises(StopIteration):
        next(batches)
    batches.close()


def test_forgetting_to_close_does_not_keep_the_thread():
    stream = Stream()
    batches = feed.Prefetch(stream, jax.local_devices())
    next(batches)
    del batches
    deadline = time.monotonic() + 5
    while not stream.closed and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stream.closed

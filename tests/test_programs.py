"""Barriers are kept in programs compiled for CPU, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg import routes
from jaxseg.engine import programs


def pmapped(donate=()):
    def update(state, batch):
        kept = lax.optimization_barrier(jax.tree.map(lambda x: x + 1, state))
        mean = lax.pmean(jnp.mean(batch), "devices")
        return jax.tree.map(lambda x: x * mean.astype(x.dtype), kept), mean

    return jax.pmap(
        update, "devices", in_axes=(None, 0), out_axes=(None, None), donate_argnums=donate,
        devices=jax.devices()[:2],
    )  # fmt: skip


STATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}
BATCH = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_what_is_compiled_has_the_barriers():
    lowered = programs.keep_barriers(pmapped()).lower(STATE, BATCH)
    assert "opt-barrier" not in lowered.compile().as_text()
    assert "opt-barrier" in lowered.compile(compiler_options=programs.KEEP_BARRIERS).as_text()


def test_results_are_those_of_pmap_for_every_shape_and_kind():
    plain, kept = pmapped(), programs.keep_barriers(pmapped())
    for state, batch in (
        (STATE, BATCH),
        (STATE, BATCH[:, :3]),
        (STATE["a"], BATCH),
        (STATE["a"].astype(np.int32), BATCH),
        (jnp.asarray(STATE["a"]), jnp.asarray(BATCH)),
        (STATE, BATCH),
    ):
        jax.tree.map(np.testing.assert_array_equal, kept(state, batch), plain(state, batch))


def test_it_is_compiled_once_and_what_is_donated_is_gone():
    counted, original = [], pmapped(donate=0)

    def update(*args):
        raise AssertionError("compiled ahead, never called")

    def lower(*args):
        counted.append(1)
        return original.lower(*args)

    update.lower = lower
    kept = programs.keep_barriers(update)
    state = kept(STATE, BATCH)[0]
    for _ in range(3):
        before, (state, _) = state, kept(state, BATCH)
        jax.block_until_ready(state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert len(counted) == 1


def test_left_alone_elsewhere():
    function = pmapped()
    with routes.use("gpu"):
        assert programs.keep_barriers(function) is function


def test_several_processes_begin_a_program_together(monkeypatch):
    told, function = [], pmapped()
    monkeypatch.setattr(programs.processes, "gather", lambda *what: told.append(what))
    with monkeypatch.context() as two:
        two.setattr(jax, "process_count", lambda: 2)
        kept = programs.keep_barriers(function)
    state, _ = kept(STATE, BATCH)
    kept(state, BATCH)
    assert told == [("compiled", "")]

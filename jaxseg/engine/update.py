"""The one update that every method shares: gradients of each player, averaged over devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxseg.engine import guard
from jaxseg.engine.method import AXIS, Batch, Carry, Loss, Method, State


def init_state(
    method: Method,
    txs: dict[str, optax.GradientTransformation],
    key: jax.Array,
    batch: Batch,
) -> State:
    """Builds the first state; call it through `jax.jit` or `piecewise.evaluated`, so that no two
    leaves share a buffer.

    Args:
      method: the method.
      txs: player -> optax transformation.
      key: uint32 [2] from `jax.random.PRNGKey`.
      batch: any batch with the shapes of training; its values are not used.
    """
    init_key, train_key = jax.random.split(key)
    params, stats, memory = method.init(init_key, batch)
    opt = {player: txs[player].init(params[player]) for player in params}
    zero, none = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    return State(zero, train_key, params, opt, stats, memory, none)


def make_update(
    method: Method,
    txs: dict[str, optax.GradientTransformation],
    accumulate: int = 1,
    skips: int = 0,
) -> Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]:
    """Makes the pure update of one training step, to be pmapped over `AXIS`.

    Args:
      method: its losses are computed in their order.
      txs: player -> optax transformation.
      accumulate: number of micro-batches per step, equal slices of the batch. Gradients and metrics
        are averaged over them; the running statistics are updated by one after the other.
      skips: updates that may be passed over because they are not finite, see `guard`.

    Returns:
      (state, batch of this device [n, ...]) -> (state, metrics {name: scalar}); gradients,
      statistics and metrics are averaged over the devices. The metrics are those of the method,
      'loss/<player>', 'grad_norm/<player>' and what `guard` adds.
    """

    def update(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(state.key, state.step)
        key = jax.random.fold_in(key, lax.axis_index(AXIS))
        carry = Carry(state.step, state.stats, state.memory, {}, {})
        params, grads, done = dict(state.params), {}, {}

        def move(player: str) -> tuple:
            before = params[player]
            updates, opt = txs[player].update(grads[player], state.opt[player], before)
            return optax.apply_updates(before, updates), opt

        def moved() -> tuple[dict, dict]:
            ends = done or {player: move(player) for player in method.losses}
            return {p: end[0] for p, end in ends.items()}, {p: end[1] for p, end in ends.items()}

        for number, (player, loss) in enumerate(method.losses.items()):
            gradient = _accumulated(_gradient(loss, player), player, accumulate)
            own_key = jax.random.fold_in(key, number)
            grad, carry = gradient(params, carry, batch, own_key)
            grads[player] = jax.tree.map(_mean, grad)
            if method.alternate:
                done[player] = move(player)
                params[player] = done[player][0]
        after = (carry.stats, carry.memory, carry.metrics)
        stats, memory, metrics = jax.tree.map(_over_devices, after)
        metrics |= {guard.NORM + player: guard.norm(grad) for player, grad in grads.items()}
        return guard.settle(state, tuple(method.losses), moved, stats, memory, metrics, skips)

    return update


def _mean(x: jax.Array) -> jax.Array:
    """The mean over devices. For one device the value itself: XLA would copy it for the mean."""
    return x if lax.axis_size(AXIS) == 1 else lax.pmean(x, AXIS)


def _over_devices(x: jax.Array) -> jax.Array:
    """The mean over devices; integers and flags, equal on all devices, keep their type."""
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return _mean(x)
    return lax.pmax(x.astype(jnp.int32), AXIS).astype(x.dtype)


def _gradient(loss: Loss, player: str) -> Callable:
    """(params, carry, batch, key) -> (gradient of the player's own subtree, carry)."""

    def gradient(params, carry, batch, key):
        def of_own(own):
            value, after = loss({**params, player: own}, carry, batch, key)
            metrics = {**after.metrics, f"loss/{player}": value}
            return value, after._replace(metrics=metrics)

        return jax.grad(of_own, has_aux=True)(params[player])

    return gradient


def _accumulated(gradient: Callable, player: str, slices: int) -> Callable:
    """The same gradient as the mean over `slices` equal parts of the batch, one after the other."""
    if slices == 1:
        return gradient

    def accumulated(params, carry, batch, key):
        def cut(x):
            if x.shape[0] % slices:
                raise ValueError(
                    f"a batch of {x.shape[0]} a device cannot be cut into {slices} micro-batches"
                )
            return x.reshape(slices, x.shape[0] // slices, *x.shape[1:])

        def one(moving, item):
            stats, memory, total = moving
            number, part, shared = item
            inner = carry._replace(stats=stats, memory=memory, shared=shared, metrics={})
            grad, after = gradient(params, inner, part, jax.random.fold_in(key, number))
            total = jax.tree.map(jnp.add, total, grad)
            return (after.stats, after.memory, total), (after.shared, after.metrics)

        # `shared` is stacked over the slices: an earlier player has already laid it out that way.
        items = (jnp.arange(slices), jax.tree.map(cut, dict(batch)), carry.shared)
        start = jax.tree.map(jnp.zeros_like, params[player])
        (stats, memory, total), (shared, metrics) = lax.scan(
            one, (carry.stats, carry.memory, start), items
        )
        mean = jax.tree.map(lambda x: x / slices, total)
        metrics = {**carry.metrics, **jax.tree.map(lambda x: x.mean(0), metrics)}
        return mean, carry._replace(stats=stats, memory=memory, shared=shared, metrics=metrics)

    return accumulated

"""Evaluation with averaged parameters: a wrapper around any method with a segmenter."""

import jax
import jax.numpy as jnp

from jaxseg.engine.method import Loss, Method
from jaxseg.errors import UserError
from jaxseg.methods.parts import memory as parts_memory

NAME = "average"  # in State.memory


def averaged(method: Method, decay: float) -> Method:
    """The same training; `predict` and the views use a moving average of the segmenter.

    Parameters and running statistics are averaged alike, so that they fit each other: a step's
    statistics come from the parameters that it began with, so those parameters are averaged. The
    average therefore contains an optimiser's step only from the next step on. Before the first
    step (with loaded weights, say) the parameters themselves are used.

    Args:
      method: with a player `gen` that has a network `segmenter`.
      decay: of the average in each step (in each micro-batch, if there are several); 0 returns the
        method unchanged.

    Raises:
      UserError: a decay outside 0..1.
    """
    if not 0 <= decay < 1:
        raise UserError(f"ema={decay}: give 0 or more, and less than 1")
    if not decay:
        return method

    def init(key, batch):
        params, stats, memory = method.init(key, batch)
        zeros = jax.tree.map(jnp.zeros_like, (params["gen"]["segmenter"], stats["segmenter"]))
        average = {"params": zeros[0], "stats": zeros[1], "steps": jnp.zeros((), jnp.int32)}
        return params, stats, {**memory, NAME: average}

    def followed(losses: dict[str, Loss]) -> dict[str, Loss]:
        def gen(params, carry, batch, key):
            total, carry = losses["gen"](params, carry, batch, key)
            before = carry.memory[NAME]
            now = {"params": params["gen"]["segmenter"], "stats": carry.stats["segmenter"]}
            old = {name: before[name] for name in now}
            after = parts_memory.ema(old, now, decay, before["steps"])
            memory = {**carry.memory, NAME: {**after, "steps": before["steps"] + 1}}
            return total, carry._replace(memory=memory)

        return {**losses, "gen": gen}

    def of_average(function):
        def evaluate(params, stats, memory, seen):
            average = memory[NAME]

            def latest(old, new):
                return jnp.where(average["steps"] > 0, old, new)

            net = jax.tree.map(latest, average["params"], params["gen"]["segmenter"])
            running = jax.tree.map(latest, average["stats"], stats["segmenter"])
            params = {**params, "gen": {**params["gen"], "segmenter": net}}
            return function(params, {**stats, "segmenter": running}, memory, seen)

        return evaluate

    return method._replace(
        init=init,
        losses=followed(method.losses),
        warmup=followed(method.warmup) if method.warmup else None,
        predict=of_average(method.predict),
        views={
            name: view._replace(function=of_average(view.function))
            for name, view in method.views.items()
        },
    )

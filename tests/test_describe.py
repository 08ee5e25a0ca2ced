"""`--mode=describe` by hand, and the table of a trace."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.networks import count
from kit.small import small_config
from rich.console import Console

from jaxseg.errors import UserError
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state
from jaxseg.run import describe, profiling


def test_a_config_described(tmp_path):
    config = small_config("source_only", tmp_path, "streets+vgg16")
    config.compile_cache = False
    config.method.settings.update(dict(weighted=0.5, class_weights=("median",)))  # not counted
    text = io.StringIO()
    found = describe.describe(config, Console(file=text, width=200))
    state = abstract_state(config, make_method(config), make_optimisers(config))
    assert found["parameters"] == {"gen/segmenter": count(state.params["gen"]["segmenter"])}
    sizes = [x.size * x.dtype.itemsize for x in jax.tree.leaves(state)]
    assert found["state_bytes"] == sum(sizes)
    assert found["step_bytes"] > found["state_bytes"]
    # A step is a forward and a backward pass of two images, about six forward passes of one, and
    # the loss at the images' size, which counts in so small a network.
    assert 5 < found["step_flops"] / found["predict_flops"] < 12
    said = text.getvalue()
    assert f"{found['parameters']['gen/segmenter']:,}" in said
    assert "batch 2 of source 32x64 and target 32x64" in said and "GFLOP" in said


def test_flops_of_a_convolution_by_hand():
    """Twice the products: 2 images, 8x8, 3x3 kernels without padding, 4 to 5 channels."""
    x, kernel = jnp.ones((2, 10, 10, 4)), jnp.ones((3, 3, 4, 5))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    counted = describe.counted(jax.jit(convolve).lower(x, kernel))
    assert counted == 2 * 2 * 8 * 8 * 3 * 3 * 4 * 5


def test_the_dearest_operations_of_a_trace(tmp_path):
    """Three of six whole updates are traced; a product of matrices costs more than all else."""

    @jax.jit
    def update(state, batch):
        return jnp.tanh(state @ state) / 400, {"loss": batch.sum()}

    told, state, batch = [], jnp.ones((400, 400)), np.ones(4, np.float32)
    parts = profiling.parts_of(update.lower(state, batch).compile())
    updates = {"warmup": lambda state, batch: (state, {}), "full": update}
    updates = profiling.traced(updates, 3, 6, str(tmp_path), told.append, parts)
    for phase in ("warmup",) * 4 + ("full",) * 6:
        assert not told or phase == "full"
        state, _ = updates[phase](state, batch)
    found = profiling.operations(tmp_path / profiling.FOLDER, parts)
    assert found[0].seconds == max(each.seconds for each in found) > 0
    assert found[0].count == 3
    assert "dot_general" in {each.what for each in found}
    assert told[0].startswith("trace of 3 steps in ") and found[0].name in told[1]
    assert (tmp_path / "profile" / "operations.json").exists()


def test_a_trace_needs_enough_steps(tmp_path):
    with pytest.raises(UserError, match="--profile=5 needs 7 steps after the warm-up, .* 6 are"):
        profiling.traced({"full": print}, 5, 6, str(tmp_path), print)

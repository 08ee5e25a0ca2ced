"""Every config's programs lower for CUDA and TPU, with the routes that accelerators take.

No device is needed. Memory and speed are another matter: `benchmarks/ahead.py` compiles.
"""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from kit.small import small_config

from jaxseg import routes
from jaxseg.engine.method import AXIS
from jaxseg.engine.update import make_update
from jaxseg.experiment import networks
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state, example

PLATFORMS = ("cpu", "cuda", "tpu")


# One config of each kind of method, on a small VGG but where depth wants a ResNet: it is traced
# most quickly, and layers of the others have nothing that it has not.
CONFIGS = ("advent_prior", "baseline", "cbst", "dacs", "dada", "daformer", "fcns_in_the_wild")


@pytest.mark.parametrize("name", (*CONFIGS, "gio_ada"))
def test_update_and_predict_lower(name, tmp_path):
    config = small_config(name, tmp_path)
    if name != "dada":
        config.net.update(dict(backbone="vgg_tiny", aux=False))
        networks.settle(config)
    with routes.use("gpu"):
        method, players = make_method(config), make_optimisers(config)
        state = abstract_state(config, method, players)
        batch = {
            key: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype)
            for key, x in example(config, method).items()
        }
        mesh = Mesh(np.array(jax.devices()[:1]), (AXIS,))
        whole = PartitionSpec()
        update = jax.shard_map(
            make_update(method, players.txs), mesh=mesh, in_specs=(whole, PartitionSpec(AXIS)),
            out_specs=(whole, whole), check_vma=False,
        )  # fmt: skip
        step = jax.export.export(jax.jit(update), platforms=PLATFORMS)(state, batch)
        image = batch.get("target_image", batch["source_image"])
        predict = jax.export.export(jax.jit(method.predict), platforms=PLATFORMS)(
            state.params, state.stats, state.memory, image
        )
    assert step.platforms == predict.platforms == PLATFORMS
    text = step.mlir_module()
    assert "stablehlo.convolution" in text
    # Neither a kernel of one platform alone nor the CPU's own barriers are in it; the guard against
    # bad steps has one for each player and one for the state.
    called = {
        line.split("@")[1].split("(")[0] for line in text.splitlines() if "custom_call" in line
    }
    assert not called - {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
    assert text.count("stablehlo.optimization_barrier") <= len(method.losses) + 1

"""Every config's programs lower for CUDA and TPU, with the routes that accelerators take.

No device is needed. Memory and speed are another matter: `benchmarks/ahead.py` compiles.
"""

import jax
import jax.numpy as jnp
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
from jaxseg.models.segmenters import build

PLATFORMS = ("cpu", "cuda", "tpu")


# One config of each kind of method, on a small VGG but where depth wants a ResNet: it is traced
# most quickly. The other networks are below.
CONFIGS = (
    *("advent_prior", "baseline", "cbst", "cycada", "dacs", "dada", "daformer"),
    *("fcns_in_the_wild", "gio_ada"),
)
NETWORKS = (
    *("deeplabv3plus:efficientnet_tiny", "fcn:vgg16_tiny", "unet:tiny"),
    *("daformer:mit_tiny:hrda", "vfm:dinov2_tiny", "vfm:dinov3_tiny"),
)


@pytest.mark.parametrize("name", CONFIGS)
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


@pytest.mark.parametrize("name", NETWORKS)
def test_network_and_gradient_lower(name):
    """Attention, depthwise and transposed convolutions, windows; forward and back."""
    architecture, backbone, *hrda = name.split(":")
    size = (64, 128)
    module = build.build(
        architecture, 5, backbone, norm="train", axis_name=None, dtype=jnp.float32,
        hrda=(32, 64) if hrda else None,
    )  # fmt: skip
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    key = jax.random.PRNGKey(0)

    def loss(params, stats, image):
        variables = {"params": params, "batch_stats": stats}
        found, _ = module.apply(
            variables, image, True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        return sum(jnp.sum(x) for x in jax.tree.leaves(found))

    with routes.use("gpu"):
        shapes = jax.eval_shape(lambda x: module.init(key, x, False), image)
        given = shapes["params"], shapes.get("batch_stats", {}), image
        step = jax.export.export(jax.jit(jax.grad(loss)), platforms=PLATFORMS)(*given)
    text = step.mlir_module()
    assert step.platforms == PLATFORMS and "stablehlo.convolution" in text
    assert "custom_call" not in text

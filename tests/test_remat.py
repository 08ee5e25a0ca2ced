"""Recomputing blocks in the backward pass gives the same numbers with less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import advent
from jaxseg.engine import programs
from jaxseg.errors import UserError
from jaxseg.experiment import networks
from jaxseg.models.backbones import resnet
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2

SIZES = resnet.Sizes((1, 2, 2, 1), widths=(4, 4, 4, 4), stem=8)


def trained(remat, norm):
    net = network(DeepLabV2(3, SIZES, rates=(1, 2), norm=norm, initial="he", remat=remat))
    images = np.random.default_rng(0).normal(size=(2, 33, 48, 3)).astype(np.float32)
    params, stats = net.init(jax.random.PRNGKey(0), images)

    def loss(params, images):
        outputs, changed = net.apply(params, stats, images, True)
        return sum(jnp.mean(jnp.sin(x)) for x in outputs.values()), (outputs, changed)

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return params, *run(params, images), run.lower(params, images)


@pytest.mark.parametrize("norm", ["train", "reference"])
def test_the_same_parameters_outputs_statistics_and_gradients(norm):
    plain, again = trained(False, norm), trained(True, norm)
    assert jax.tree.structure(plain[:3]) == jax.tree.structure(again[:3])
    for want, got in zip(jax.tree.leaves(plain[:3]), jax.tree.leaves(again[:3]), strict=True):
        scale = max(float(jnp.abs(want).max()), 1e-6)
        np.testing.assert_allclose(got, want, atol=2e-5 * scale)


def test_less_memory():
    # Six blocks of equal size: what is kept is their inputs instead of all that is inside.
    deep = resnet.Sizes((6, 1, 1, 1), widths=(16, 4, 4, 4), stem=8)
    images, found = jnp.zeros((1, 128, 128, 3)), []
    for remat in (False, True):
        net = network(DeepLabV2(3, deep, rates=(1,), aux=False, initial="he", remat=remat))
        params, stats = jax.eval_shape(net.init, jax.random.PRNGKey(0), images)

        def loss(params, stats, images, net=net):
            return jnp.sum(jnp.sin(net.apply(params, stats, images, True)[0]["main"]))

        lowered = jax.jit(jax.grad(loss)).lower(params, stats, images)
        options = {**programs.KEEP_BARRIERS, "xla_backend_optimization_level": 0}
        found.append(lowered.compile(options).memory_analysis().temp_size_in_bytes)
    plain, again = found
    assert again < 0.6 * plain


def test_the_setting():
    config = advent.get_config("streets+scratch")
    config.net.remat = True
    networks.check(config.net)
    config = advent.get_config("streets+vgg16")
    config.net.remat = True
    with pytest.raises(UserError, match="net.remat=True: deeplabv2 of vgg_small has no blocks"):
        networks.check(config.net)

"""Tracing for another platform than that of this machine."""

import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import drawn, quick

from jaxseg import routes
from jaxseg.models.layers.conv import conv2d
from jaxseg.models.network import network
from jaxseg.models.segmenters.unet import UNet


def test_the_default_is_the_backend_and_what_is_chosen_ends_with_its_block():
    assert routes.current() == jax.default_backend()
    with routes.use("tpu"):
        with routes.use("cpu"):
            assert routes.current() == "cpu"
        assert routes.current() == "tpu"
        others = []
        thread = threading.Thread(target=lambda: others.append(routes.current()))
        thread.start()
        thread.join()
        assert others == [jax.default_backend()]  # a thread has its own
    with pytest.raises(ZeroDivisionError), routes.use("tpu"):
        _ = 1 / 0
    assert routes.current() == jax.default_backend()
    with pytest.raises(ValueError, match="platform 'npu' is not one of cpu, gpu, tpu"):
        routes.use("npu").__enter__()


def test_a_program_for_another_platform_is_that_platforms():
    """A 1x1 convolution is a product on a CPU, and stays a convolution for a GPU."""
    x, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1, 3, 5))
    for platform, there, absent in (
        ("cpu", "dot_general", "convolution"),
        ("gpu", "convolution", "dot_general"),
    ):
        with routes.use(platform):
            name = {"gpu": "cuda"}.get(platform, platform)
            program = jax.export.export(jax.jit(lambda x, k: conv2d(x, k)), platforms=[name])
            text = program(x, kernel).mlir_module()
        assert re.search(f"stablehlo.{there}", text) and f"stablehlo.{absent}" not in text


def test_a_network_gives_the_same_by_either_route():
    """Outputs, statistics and gradients of a U-Net, which convolves, pools and resizes."""
    module = UNet(3, (3, 4))
    net, (params, stats) = network(module), drawn(module, (9, 12))
    images = np.random.default_rng(0).normal(size=(2, 9, 12, 3)).astype(np.float32)

    def by(platform):
        def loss(params, images):
            outputs, new = net.apply(params, stats, images, True)
            return jnp.mean(jnp.sin(outputs["main"])), (outputs, new)

        with routes.use(platform):
            return quick(jax.value_and_grad(loss, has_aux=True), params, images)

    found = by("cpu"), by("gpu")
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        # Behind a norm some gradients are sums that cancel, of which rounding is a large share.
        np.testing.assert_allclose(one, other, atol=1e-3 * max(float(np.abs(one).max()), 1e-4))

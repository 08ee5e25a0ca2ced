"""Exported files: they compute what jaxseg does, and the pages' examples read them."""

import functools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.networks import values_for
from kit.runs import write_run
from kit.small import SIZE, small_config
from PIL import Image

from jaxseg.data.labels import CITYSCAPES, colorize
from jaxseg.errors import UserError
from jaxseg.experiment.networks import PREPROCESS
from jaxseg.models.network import network
from jaxseg.models.segmenters import build
from jaxseg.run import export

pytest.importorskip("onnxruntime")
from jaxseg.storage.export import jax_file, onnx_file  # noqa: E402

PAGE = Path(__file__).resolve().parent.parent / "docs" / "export.md"
FILES = {"jax": "network.npz", "onnx": "network.onnx"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(config, folder) of a run with a checkpoint; both files are in the folder."""
    folder = tmp_path_factory.mktemp("exported")
    config = small_config("minent", folder / "records", "streets+vgg16")
    write_run(config, folder, {2: 0.3})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(export, "BATCHES", (2,))  # the examples use one image
        for kind in FILES:
            found = export.export(config, str(folder), kind)
            assert found["file"] == str(folder / FILES[kind])
            assert found["difference"] < 1e-5 and found["ids"] == 0
    return config, folder


@pytest.mark.parametrize("kind", FILES)
def test_the_example_in_the_page(run, kind, monkeypatch, capsys):
    """It is short, does not import jaxseg, and paints what jaxseg predicts."""
    _, folder = run
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    (code,) = [each for each in examples if FILES[kind] in each]
    assert len([line for line in code.splitlines() if line]) <= 11
    image = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(image).save(folder / "street.png")
    monkeypatch.chdir(folder)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "jaxseg", None)
        exec(code, {})
    painted = np.asarray(Image.open(folder / "prediction.png"))
    # The fixture has compared this file's results with jaxseg's.
    call = export.onnx_caller((folder / FILES["onnx"]).read_bytes())
    ids = call(image[None])["ids"][0]
    assert (painted == colorize(ids, CITYSCAPES)).all(-1).mean() > 0.999  # equal but for ties
    assert CITYSCAPES.classes[ids[0, 0]] in capsys.readouterr().out


def test_mirror_images_and_scales(run, tmp_path):
    """The protocol of evaluation is part of the file; a bfloat16 network becomes float32."""
    config, folder = run
    config = config.copy_and_resolve_references()
    config.eval.update(dict(flip=True, scales=(0.5, 1.0)))
    config.net.dtype = "bfloat16"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(export, "BATCHES", (2,))
        found = export.export(config, str(folder), "onnx", str(tmp_path / "a.onnx"), (28, 52))
    assert found["difference"] < 1e-5 and found["ids"] == 0


def test_unused_weights_are_left_out():
    """Such as an auxiliary head's, whose output nobody asks for."""

    def function(weights, image):
        heads = {name: image.astype(jnp.float32) @ w for name, w in weights.items()}
        return heads["main"]

    weights = {name: np.ones((3, 2), np.float32) for name in ("aux", "main")}
    image = jax.ShapeDtypeStruct((1, 4, 4, 3), np.uint8)
    assert list(jax_file.used(function, weights, image)) == ["main"]
    graph = onnx_file.model(lambda x: {"main": function(weights, x)}, (4, 4), {}).graph
    assert len(graph.node) <= 4


def test_one_file_is_for_all_platforms(run):
    _, folder = run
    program = np.load(folder / FILES["jax"])["program"]
    exported = jax.export.deserialize(bytearray(program))
    assert exported.platforms == jax_file.PLATFORMS == ("cpu", "cuda", "tpu")


def test_onnx_of_a_transformer():
    """Attention, LayerNorm, GELU; `benchmarks/export.py` has every network."""
    module = build.build(
        "segformer", 19, "mit_tiny", norm="train", axis_name=None, dtype=jnp.float32
    )
    net, size = network(module, PREPROCESS["imagenet"]), (32, 64)
    params, stats = values_for(net, jnp.zeros((1, *size, 3), jnp.uint8))

    def predict(params, stats, memory, images):
        return net.apply(params, stats, images, False)[0]["main"]

    model = params, stats, {}
    file = export.onnx_file(predict, model, size, CITYSCAPES)
    found = export.difference(export.onnx_caller(file), predict, model, size, batches=(2,))
    assert found["difference"] < 2e-5 and found["ids"] == 0


def every_operation(image):
    """Operations that networks have only with some settings, with outputs by name."""
    x = image.astype(jnp.float32) / 255
    corner = jnp.array([1, 2])
    placed = jax.lax.dynamic_update_slice(x, x[:, :2, :3] + 1, (0, corner[0], corner[1], 0))
    pooled = functools.partial(
        jax.lax.reduce_window, window_dimensions=(1, 3, 2, 1), window_strides=(1, 2, 1, 1)
    )
    # As windows of HRDA: one place for all images of a vectorised program.
    cut = jax.vmap(lambda x: jax.lax.dynamic_slice(x, (corner[0], corner[1], 0), (3, 4, 3)))(x)
    empty = jnp.zeros((9, 9, 3))
    put = jax.vmap(lambda x: jax.lax.dynamic_update_slice(empty, x, (corner[1], corner[0], 0)))(cut)
    _, rows = jax.lax.scan(lambda c, row: (c + row, c * row), x[:, 0], x.swapaxes(0, 1))
    return {
        "stacked": jnp.stack([x, x[:, :, ::-1]], 2) * jnp.stack([x, 2 * x], -2).reshape(
            (-1, 7, 2, 8, 3)
        ),
        "tiled": jnp.tile(x, (1, 2, 1, 1)) + jnp.unstack(x, axis=2)[3][:, :1, None],
        "cut": jax.lax.dynamic_slice_in_dim(x, corner[1], 3, 1),
        "put": put,
        "mean": x.mean((1, 2), keepdims=True) - x,
        "mirrored": x[:, ::-1, ::2],
        "padded": jax.lax.pad(x, 2.0, ((0, 0, 0), (1, -2, 0), (-1, 3, 0), (0, 0, 0))),
        "placed": placed,
        "largest": pooled(x, -jnp.inf, jax.lax.max, padding=((0, 0), (1, 1), (0, 1), (0, 0))),
        "summed": pooled(x, 0.0, jax.lax.add, padding="VALID"),
        "scanned": rows.swapaxes(0, 1),
        "powers": x**3 + jnp.sqrt(x) - jnp.log1p(x) + jnp.clip(x, 0.2, 0.7) * jnp.tanh(x),
        "gelu": jax.nn.gelu(x - 0.5, approximate=False) + jax.nn.softmax(x),
        "turned": jnp.concatenate([jnp.split(x, 2, 2)[1], jnp.cos(x) * jnp.sin(x)], 2) ** 0.75,
        "chosen": jnp.where((x > 0.5) & ~(x != x), x, jnp.floor(3 * x)),
        "product": jnp.einsum("nhwc,nkwc->nhk", x, x),
        "grouped": jax.lax.conv_general_dilated(
            x, jnp.ones((3, 3, 1, 6)), (2, 1), ((1, 1), (0, 2)), rhs_dilation=(1, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3,
        ),
    }  # fmt: skip


def test_onnx_of_single_operations():
    """Against JAX itself, operation by operation, with 3 images after tracing with any number."""
    call = export.onnx_caller(onnx_file.model(every_operation, (7, 8), {}).SerializeToString())
    image = np.random.default_rng(0).integers(0, 256, (3, 7, 8, 3), np.uint8)
    expected, found = every_operation(jnp.asarray(image)), call(image)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_an_unknown_operation_is_named():
    def sorts(image):
        return {"sorted": jnp.sort(image.astype(jnp.float32), 1)}

    with pytest.raises(UserError, match="uses the operation sort, .* use --format=jax"):
        onnx_file.model(sorts, (4, 4), {})


def test_a_file_that_differs_is_refused(run, tmp_path, monkeypatch):
    config, folder = run

    right = export.onnx_caller

    def wrong(file):
        call = right(file)
        return lambda image: {k: v + (k == "logits") for k, v in call(image).items()}

    monkeypatch.setattr(export, "onnx_caller", wrong)
    with pytest.raises(UserError, match="differs from jaxseg by .* nothing was written"):
        export.export(config, str(folder), "onnx", str(tmp_path / "a.onnx"))
    assert not list(tmp_path.iterdir())


def test_mistakes(run, tmp_path, monkeypatch):
    config, folder = run
    with pytest.raises(UserError, match="--format=tf; choose one of jax, onnx"):
        export.export(config, str(folder), "tf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx and onnxruntime: pip install 'jaxseg\[onnx\]"):
        export.export(config, str(folder), "onnx")

"""Vision transformers of DINOv2 and DINOv3, and VFM-UDA's head, against the references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit import references, transformers
from kit.oracle64 import count, output_shapes, quick, shapes

from jaxseg.errors import UserError
from jaxseg.models.backbones import dinov2, dinov3, vit
from jaxseg.models.layers import positions
from jaxseg.models.network import network
from jaxseg.models.segmenters.vfm import VFM
from jaxseg.storage.weights import rename_dino, rename_uda

SIZES = {**dinov2.SIZES, **dinov3.SIZES}
TINY = dinov2.SIZES["dinov2_tiny"]
ROTARY = SIZES["dinov3_tiny"]
KINDS = {  # name in the fixture: sizes, shapes of the file, sizes of images
    "dinov2": (TINY, transformers.dinov2(), ((56, 56), (70, 98), (42, 28))),
    "dinov2-reg": (
        TINY._replace(registers=4),
        transformers.dinov2(registers=4),
        ((56, 56), (70, 98), (42, 28)),
    ),
    "dinov2-gated": (
        TINY._replace(gated=True, hidden=88),
        transformers.dinov2(gated=True),
        ((56, 56), (70, 98)),
    ),
    "dinov3": (ROTARY, transformers.dinov3(), ((64, 64), (80, 112))),
    "dinov3-gated": (
        ROTARY._replace(gated=True, hidden=128),
        transformers.dinov3(gated=True),
        ((64, 64), (80, 112)),
    ),
}


@pytest.fixture(scope="module")
def expected(request):
    with np.load(request.path.parent / "fixtures/transformers.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("dinov2_vits14", 22_056_576),
        ("dinov2_vitb14", 86_580_480),
        ("dinov2_vitl14", 304_368_640),
        ("dinov2_vitb14_reg", 86_580_480 + 4 * 768),
        ("dinov3_vits16", 21_601_152),
    ],
)
def test_parameters(name, wanted):
    sizes = SIZES[name]
    images = jax.ShapeDtypeStruct((1, sizes.patch, sizes.patch, 3), np.float32)
    found = jax.eval_shape(lambda x: vit.ViT(sizes).init(jax.random.PRNGKey(0), x, False), images)
    assert count(found) == wanted


def backbone_of(sizes, file):
    """A backbone's parameters, all of them from the file."""
    found = references.nested(rename_dino.to_ours(transformers.values(file)))
    assert set(found) == {"params"} and set(found["params"]) == {"backbone"}
    wanted = shapes_only(vit.ViT(sizes), (2 * sizes.patch,) * 2)["params"]
    found = found["params"]["backbone"]
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, wanted)
    return found


def features(module, params, picture, **options):
    stages = quick(lambda p, x: module.apply({"params": p}, x, False, **options), params, picture)
    return {name: stage.features for name, stage in stages.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_the_references(kind, expected):
    sizes, file, image_sizes = KINDS[kind]
    params, module = backbone_of(sizes, file), vit.ViT(sizes)
    for size in image_sizes:
        maps = features(module, params, references.picture(size))
        references.check(expected, kind, maps, size)
    if kind == "dinov2":
        size = (70, 98)
        hidden = (np.random.RandomState(0).random_sample((1, 35)) < 0.7).reshape(1, 5, 7)
        maps = features(module, params, references.picture(size), hidden=hidden)
        references.check(expected, "dinov2-masked", {"stage4": maps["stage4"]}, size)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_table_of_positions_for_other_grids(antialias, expected):
    table = np.random.RandomState(1).random_sample((1, 2, 37, 37)).astype("f4")
    table = table[0].transpose(1, 2, 0)
    for side in (80, 20):
        kind = "smooth" if antialias else "offset"
        key = f"positions-{kind}/table/{side}x{side}"
        found = positions.resize_table(jnp.asarray(table), (side, side), antialias)
        np.testing.assert_allclose(references.sample(key, found[None]), expected[key], atol=1e-5)
    assert positions.resize_table(table, (37, 37), antialias) is table
    # By the matrix alone the offset would move even the table's own grid.
    assert np.abs(positions.cubic_matrix(37, 37, 0.1, False) - np.eye(37)).max() > 0.05


def test_rotary_angles_by_hand():
    angles = positions.rotary_angles((2, 1), 8)
    # Rows at -0.5 and 0.5, the column at 0; periods 1 and 10.
    row = np.pi * np.array([1, 0.1])
    want = np.stack([np.tile([*(sign * row), 0, 0], 2) for sign in (-1, 1)])
    np.testing.assert_allclose(angles, want, rtol=1e-6)


def test_rotation_keeps_lengths_and_other_tokens():
    x = np.random.RandomState(0).normal(size=(2, 9, 3, 8)).astype("f4")
    y = np.asarray(positions.rotate(jnp.asarray(x), (2, 3)))
    np.testing.assert_array_equal(y[:, :3], x[:, :3])
    assert np.abs(y[:, 3:] - x[:, 3:]).max() > 0.1
    np.testing.assert_allclose(np.square(y).sum(-1), np.square(x).sum(-1), rtol=1e-5)


def test_a_bias_of_the_keys_counts_for_nothing_in_dinov3():
    params = backbone_of(*KINDS["dinov3"][:2])
    bias = params["block0"]["qkv"]["bias"]
    assert not bias[32:64].any() and bias[:32].any() and bias[64:].any()
    module, picture = vit.ViT(ROTARY), references.picture((32, 32))
    first = features(module, params, picture)["stage4"]
    bias[32:64] = 5
    np.testing.assert_array_equal(first, features(module, params, picture)["stage4"])


def test_sides_that_are_no_multiples_of_the_patch():
    with pytest.raises(UserError, match="64x56 for patches of 14"):
        shapes_only(vit.ViT(TINY), (64, 56))


def shapes_only(module, size):
    images = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    return jax.eval_shape(lambda x: module.init(jax.random.PRNGKey(0), x, False), images)


def test_vfm_logits_of_the_reference(expected):
    state = transformers.values(transformers.vfm())
    found = rename_uda.networks(state)
    assert found.others == {}
    ours = rename_dino.to_ours(found.student)
    assert ours.pop("token_masking.mask_token").shape == (1, 32)
    module = VFM(transformers.CLASSES, vit.ViT(TINY))
    params, stats = references.loaded(module, (64, 64), ours)
    assert stats == {}
    for size in ((64, 64), (96, 96)):
        picture = references.picture(size)
        outputs = quick(lambda *v: network(module).apply(*v, False)[0], params, stats, picture)
        assert outputs["main"].shape == (1, *size, transformers.CLASSES)
        references.check(expected, "vfm", outputs, size)


def test_masked_tokens():
    module = VFM(transformers.CLASSES, vit.ViT(TINY._replace(blocks=1)), upsample=False)
    params = shapes(module, (64, 64))[0]
    params = jax.tree.map(lambda leaf: np.random.RandomState(0).normal(size=leaf.shape) / 9, params)
    picture, key = references.picture((64, 64)), jax.random.PRNGKey(0)

    def logits(ratio, image=picture):
        def run(params, image, key):
            return network(module).apply(params, {}, image, True, key, mask_ratio=ratio)[0]

        return quick(run, params, image, key)["main"]

    # With every token hidden the image no longer matters.
    whole = logits(1.0)
    np.testing.assert_array_equal(whole, logits(1.0, picture[:, ::-1]))
    some, none = logits(0.7), logits(0.0)
    assert not np.array_equal(some, none) and not np.array_equal(some, whole)


def test_shapes_of_vfm():
    module = VFM(19, vit.ViT(SIZES["dinov2_vitl14"]._replace(blocks=4)), features=True)
    found = output_shapes(module, (1024, 1024))
    assert found == {"main": (1, 1024, 1024, 19), "features": (1, 80, 80, 1024)}

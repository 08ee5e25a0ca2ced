"""MiT encoders with SegFormer's and DAFormer's heads: counts, the references' outputs, training."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from kit import references, transformers
from kit.oracle64 import count, drawn, output_shapes, quick, shapes

from jaxseg.models.backbones import mit
from jaxseg.models.layers import attention
from jaxseg.models.network import network
from jaxseg.models.segmenters.daformer import DAFormer
from jaxseg.models.segmenters.segformer import SegFormer
from jaxseg.storage.weights import rename_mit

SIZES = ((64, 96), (72, 104))
CLASSES, CHANNELS = transformers.CLASSES, transformers.CHANNELS


def encoder(name="mit_tiny", **settings):
    return mit.make(mit.SIZES[name], **settings)


@pytest.fixture(scope="module")
def expected(request):
    with np.load(request.path.parent / "fixtures/transformers.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("mit_b0", 3_319_392),
        ("mit_b1", 13_151_424),
        ("mit_b2", 24_196_288),
        ("mit_b3", 44_072_128),
        ("mit_b4", 60_842_688),
        ("mit_b5", 81_443_008),
    ],
)
def test_parameters_of_the_encoders(name, wanted):
    assert sum(parts_of(name).values()) == wanted


def test_parameters_by_stage():
    parts = parts_of("mit_b5")
    assert list(parts.values()) == [954_368, 2_869_888, 66_623_040, 10_995_712]


def parts_of(name):
    """Parameter count of each stage; one block is traced, the others are equal."""
    sizes = mit.SIZES[name]
    module = mit.make(sizes._replace(blocks=(1, 1, 1, 1)))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    params = jax.eval_shape(lambda x: module.init(jax.random.PRNGKey(0), x, False), images)
    parts = dict.fromkeys("1234", 0)
    for group, tree in params["params"].items():
        stage = re.search(r"[1-4]", group)[0]
        times = sizes.blocks[int(stage) - 1] if "block" in group else 1
        parts[stage] += times * count(tree)
    return parts


@pytest.mark.parametrize(
    "backbone, settings, head",
    [
        ("mit_b5", dict(context="sepaspp"), 3_712_275),
        ("mit_b0", dict(context="sepaspp"), 3_581_203),
        ("mit_b5", dict(context="aspp"), 9_969_939),
        ("mit_b5", dict(context="conv1"), 530_707),
        ("mit_b5", dict(channels=768), 3_164_947),
        ("mit_b0", dict(channels=768), 2_771_731),
        ("mit_b5", dict(channels=256), 530_707),
        ("mit_b0", dict(channels=256), 399_635),
    ],
)
def test_parameters_of_the_heads(backbone, settings, head):
    kind = DAFormer if "context" in settings else SegFormer
    short = mit.make(mit.SIZES[backbone]._replace(blocks=(1, 1, 1, 1)))
    params, _ = shapes(kind(19, short, **settings), (32, 32))
    assert count(params["main_head"]) == head
    whole = {"mit_b5": 85_155_283, "mit_b0": 6_900_595}
    if settings == dict(context="sepaspp"):
        assert head + sum(parts_of(backbone).values()) == whole[backbone]


def built(kind):
    """A network by its name in the fixture, and its tensors in the reference's names."""
    head, _, fusion = kind.partition("-")
    if head == "segformer":
        module = SegFormer(CLASSES, encoder(), CHANNELS)
        return module, transformers.segformer()
    return DAFormer(CLASSES, encoder(), CHANNELS, fusion), transformers.daformer(fusion)


@pytest.mark.parametrize(
    "kind", ["daformer-sepaspp", "daformer-aspp", "daformer-conv1", "segformer"]
)
def test_outputs_of_the_references(kind, expected):
    module, head = built(kind)
    state = transformers.values({**transformers.mit("backbone."), **head})
    ours = rename_mit.to_ours(state)
    if kind == "segformer":
        unread = {name for name in ours if name.startswith("main_head.")}
        assert unread == {"main_head.conv_seg.weight", "main_head.conv_seg.bias"}
        ours = {name: array for name, array in ours.items() if name not in unread}
    params, stats = references.loaded(module, SIZES[0], ours)
    for size in SIZES if kind == "daformer-sepaspp" else SIZES[1:]:
        picture = references.picture(size)
        outputs = quick(lambda *v: network(module).apply(*v, False)[0], params, stats, picture)
        references.check(expected, kind, outputs, size)


@pytest.mark.parametrize("size", SIZES)
def test_stages_of_the_reference(size, expected):
    ours = rename_mit.to_ours(transformers.values(transformers.mit("backbone.")))
    params = references.nested(ours)["params"]["backbone"]
    picture = references.picture(size)
    stages = quick(lambda p, x: encoder().apply(p, x, False), {"params": params}, picture)
    maps = {name: stage.features for name, stage in stages.items()}
    references.check(expected, "mit", maps, size)


def test_the_two_epsilons():
    """Features small enough for the epsilons to matter: 1e-5 behind convolutions, else 1e-6."""
    module = attention.LayerNorm(epsilon=mit.BEHIND_CONV)
    x = jnp.array([[1.0, -1.0]]) * 3e-3  # variance 9e-6
    y = module.apply({"params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}}, x)
    np.testing.assert_allclose(y, [[3e-3 / np.sqrt(1.9e-5), -3e-3 / np.sqrt(1.9e-5)]], rtol=1e-5)
    assert (mit.BEHIND_CONV, mit.ELSEWHERE) == (1e-5, 1e-6)


def test_strides_of_the_stages():
    found = {}

    def run(images):
        stages = encoder().init_with_output(jax.random.PRNGKey(0), images, False)[0]
        found.update({name: (x.features.shape, x.stride) for name, x in stages.items()})

    jax.eval_shape(run, jax.ShapeDtypeStruct((2, 96, 70, 3), np.float32))
    assert found == {
        "stage1": ((2, 24, 18, 16), 4),
        "stage2": ((2, 12, 9, 32), 8),
        "stage3": ((2, 6, 5, 48), 16),
        "stage4": ((2, 3, 3, 64), 32),
    }


def test_logits_at_the_size_of_the_images():
    module = DAFormer(CLASSES, encoder(), CHANNELS, upsample=True, features=True)
    found = output_shapes(module, (64, 96))
    assert found == {"main": (1, 64, 96, CLASSES), "features": (1, 2, 3, 64)}


def test_drop_path_rises_linearly():
    assert attention.rising(0.1, 5) == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert attention.rising(0.1, 1) == [0]


def test_drop_path_leaves_out_whole_images():
    module, x = attention.DropPath(0.25), jnp.ones((4000, 2, 3))
    y = module.apply({}, x, True, rngs={"dropout": jax.random.PRNGKey(0)})
    per_image = np.asarray(y).reshape(4000, -1)
    assert (per_image == per_image[:, :1]).all()
    assert set(np.unique(per_image)) == {0, np.float32(1 / 0.75)}
    assert abs((per_image[:, 0] == 0).mean() - 0.25) < 0.03
    # Without a key, or out of training, nothing happens.
    assert module.apply({}, x, True) is x
    assert module.apply({}, x, False, rngs={"dropout": jax.random.PRNGKey(0)}) is x


def test_dropout_takes_whole_channels():
    module, x = attention.ChannelDropout(0.5), jnp.ones((8, 5, 4, 64))
    y = np.asarray(module.apply({}, x, True, rngs={"dropout": jax.random.PRNGKey(0)}))
    assert (y == y[:, :1, :1]).all() and set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(module.apply({}, x, True), x)


def test_attention_in_groups_is_the_same():
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    query, key, value = (
        jax.random.normal(k, (2, n, 3, 4)) for k, n in zip(keys, (17, 5, 5), strict=True)
    )

    scores = np.einsum("nqhd,nkhd->nhqk", query, key) / 2
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    want = np.einsum("nhqk,nkhd->nqhd", weights, value)

    def run(limit):
        attend = lambda *v: attention.attention(*v, limit)  # noqa: E731
        slope = jax.grad(lambda *v: jnp.sum(jnp.sin(attend(*v))), (0, 1, 2))
        return quick(lambda *v: (attend(*v), *slope(*v)), query, key, value)

    whole, parts = run(2**20), run(130)
    np.testing.assert_allclose(whole[0], want, rtol=1e-4, atol=1e-6)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_first_values():
    key = jax.random.PRNGKey(0)
    dense = attention.conv_normal()(key, (3, 3, 40, 64))
    assert np.std(dense) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    depthwise = attention.conv_normal(2000)(key, (3, 3, 1, 2000))
    assert np.std(depthwise) == pytest.approx(np.sqrt(2 / 9), rel=0.02)
    values = attention.small_normal(key, (100, 100))
    assert np.std(values) == pytest.approx(0.02, rel=0.03) and np.abs(values).max() > 0.06


def test_remat_changes_no_gradient():
    block = dict(heads=2, reduction=2, ratio=4, drop_path=0.5, dtype=jnp.float32)
    x, key = jax.random.normal(jax.random.PRNGKey(0), (4, 6, 8, 16)), jax.random.PRNGKey(1)

    def gradient(kind):
        module = kind(**block)
        values = jax.eval_shape(lambda: module.init(key, x, False))
        values = jax.tree.map(lambda v: np.random.RandomState(0).normal(size=v.shape) / 9, values)
        run = lambda v: jnp.sum(module.apply(v, x, True, rngs={"dropout": key}) ** 2)  # noqa: E731
        return quick(jax.grad(run), values)

    plain, again = gradient(mit.Block), gradient(nn.remat(mit.Block, static_argnums=(2,)))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())


def test_a_teacher_without_a_key_moves_its_statistics_and_drops_nothing():
    module = DAFormer(CLASSES, encoder(), CHANNELS)
    params, stats = drawn(module, (32, 32))
    images = np.concatenate([references.picture((32, 32))] * 2) + np.float32(0.1)
    apply = lambda p, s, x: network(module).apply(p, s, x, True)  # noqa: E731
    outputs, moved = quick(apply, params, stats, images)
    np.testing.assert_allclose(*outputs["main"], atol=1e-4)  # nothing was dropped
    before, after = (tree["main_head"]["fuse"]["bn"]["mean"] for tree in (stats, moved))
    assert not np.array_equal(before, after)

"""Margins of whole images, in which pseudo labels do not count: a map that is cropped with them."""

import jax
import numpy as np
import optax
from kit.small import K, linear_segmenter, quick_run
from kit.streams import Memory, take

from jaxseg.data import transforms
from jaxseg.methods import dacs

MARGINS = (1 / 8, 2 / 8, 1 / 16, 3 / 16)  # top, bottom, left, right


def test_inside_of_an_image():
    found = transforms.inside((8, 16), MARGINS)
    expected = np.zeros((8, 16))
    expected[1:6, 1:13] = 1
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


def test_it_is_cropped_and_mirrored_with_the_image():
    place = np.arange(8 * 16).reshape(8, 16)
    image = np.stack([place] * 3, -1).astype(np.uint8)  # each pixel tells where it was
    sample = {"image": image, "valid": transforms.inside((8, 16), MARGINS)}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        cut = transforms.augment_sample(sample, rng, crop=(6, 6), flip=0.5)
        expected = sample["valid"].ravel()[cut["image"][..., 0]]
        np.testing.assert_array_equal(cut["valid"], expected)
    # What a shrunken image leaves empty does not count.
    cut = transforms.augment_sample(sample, np.random.default_rng(0), scale=(0.5, 0.5))
    assert cut["valid"].shape == (8, 16) and cut["valid"].sum() <= 8 * 4


def segmenter():
    linear = linear_segmenter()

    def init(key, images):
        del images
        kernel = 0.02 * jax.random.normal(key, (3, K))
        return {"main_head": {"kernel": kernel}, "backbone": {"kernel": 0 * kernel}}, {}

    return linear._replace(init=init)


def test_a_map_in_the_batch_does_what_margins_do():
    rng, size = np.random.default_rng(0), (8, 10)
    data = {
        "source_image": rng.normal(0, 40, (2, *size, 3)).astype(np.float32),
        "source_label": rng.integers(0, K, (2, *size)).astype(np.int32),
        "target_image": rng.normal(60, 40, (2, *size, 3)).astype(np.float32),
    }
    told = {**data, "target_valid": np.ones((2, *size), np.uint8)}
    told["target_valid"][:, 6:] = 0
    shared = dict(num_classes=K, segmentation_weights={"main": 1.0}, threshold=0.4)
    shared |= dict(jitter=0.0, blur_probability=0.0)
    by_rows = dacs.make(segmenter(), margins=(0.0, 0.25), **shared)
    by_map = dacs.make(segmenter(), margins=(0.0, 0.25, 0.0, 0.0), **shared)
    assert by_rows.reads == ("source_image", "source_label", "target_image")
    assert by_map.reads == (*by_rows.reads, "target_valid")
    txs = {"gen": optax.sgd(1e-3)}
    _, one, _ = quick_run(by_rows, txs, [data])
    _, other, _ = quick_run(by_map, txs, [told])
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_stream_tells_them():
    source = Memory([(8, 16)] * 3)
    options = dict(size=(8, 16), side="target", keys=("image", "valid"), margins=MARGINS)
    (whole,) = take(source, 1, **options)
    assert (whole["target_valid"] == transforms.inside((8, 16), MARGINS)).all()
    (batch,) = take(source, 1, augment=dict(crop=(4, 4)), **options)
    assert batch["target_valid"].shape == (3, 4, 4)
    for image, valid in zip(batch["target_image"], batch["target_valid"], strict=True):
        corners = [
            (y, x, i)
            for i in range(3)
            for y in range(5)
            for x in range(13)
            if (source.image(i)[y : y + 4, x : x + 4] == image).all()
        ]
        ((y, x, _),) = corners
        assert (transforms.inside((8, 16), MARGINS)[y : y + 4, x : x + 4] == valid).all()

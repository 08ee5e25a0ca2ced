"""Prediction protocols against loops in NumPy, and cases in which they must change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.evaluation import protocol as evaluation_protocol
from jaxseg.evaluation.evaluator import make_evaluator
from jaxseg.models.layers import layers
from jaxseg.models.network import network
from jaxseg.models.segmenters.deeplabv2 import DeepLabV2

K = 4
KERNEL = np.random.default_rng(0).normal(size=(3, K)).astype(np.float32)
PARAMS = {"kernel": KERNEL}


def pointwise(params, stats, memory, images):
    """A 1x1 convolution: each pixel's logits depend on that pixel only."""
    return images.astype(jnp.float32) @ params["kernel"] / 255


def contextual(params, stats, memory, images):
    """Logits at half the size that depend on the whole input and on its orientation."""
    seen = images.astype(jnp.float32) / 255
    small = seen[:, ::2, ::2] @ params["kernel"]
    ramp = jnp.linspace(0, 1, small.shape[2])[:, None] * jnp.arange(K)
    return small + 5 * seen.mean((1, 2), keepdims=True)[..., :1] * ramp


def contextual_by_hand(image):
    seen = image.astype(np.float64) / 255
    small = seen[::2, ::2] @ KERNEL.astype(np.float64)
    ramp = np.linspace(0, 1, small.shape[1])[:, None] * np.arange(K)
    return small + 5 * seen[..., 0].mean() * ramp


def resized(array, size):
    """[h, w, C] -> [H, W, C], bilinear with aligned corners, line by line."""
    rows, columns = (np.linspace(0, n - 1, m) for n, m in zip(array.shape, size, strict=False))
    result = np.empty((*size, array.shape[2]))
    for c in range(array.shape[2]):
        across = [np.interp(columns, np.arange(array.shape[1]), line) for line in array[..., c]]
        across = np.stack(across)
        down = [np.interp(rows, np.arange(array.shape[0]), line) for line in across.T]
        result[..., c] = np.stack(down, 1)
    return result


def by_hand(image, flip=False, scales=(1.0,), window=None, stride=None):
    """The protocol of one image in float64, with loops."""

    def windows(image):
        if not window:
            return contextual_by_hand(image)
        height, width = image.shape[:2]
        bottom, right = max(0, window[0] - height), max(0, window[1] - width)
        padded = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        total = np.zeros((*padded.shape[:2], K))
        count = np.zeros((*padded.shape[:2], 1))
        for top in starts(padded.shape[0], window[0], stride[0]):
            for left in starts(padded.shape[1], window[1], stride[1]):
                where = np.s_[top : top + window[0], left : left + window[1]]
                total[where] += resized(contextual_by_hand(padded[where]), window)
                count[where] += 1
        assert count.min() >= 1
        return (total / count)[:height, :width]

    def starts(length, side, step):
        found, start = [], 0
        while start + side < length:
            found.append(start)
            start += step
        return [*found, length - side]

    def mirrored(image):
        if not flip:
            return windows(image)
        return (windows(image) + windows(image[:, ::-1])[:, ::-1]) / 2

    size, maps = image.shape[:2], []
    for scale in scales:
        seen = image if scale == 1 else resized(image, [int(scale * n) for n in size])
        maps.append(mirrored(seen))
    return maps[0] if tuple(scales) == (1.0,) else np.mean([resized(m, size) for m in maps], 0)


def images(count=2, size=(20, 34), seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3)).astype(np.uint8)


def run(predict, images, **protocol):
    wrapped = evaluation_protocol.protocol(predict, **protocol)
    return np.asarray(jax.jit(wrapped)(PARAMS, {}, {}, images))


PROTOCOLS = [
    dict(flip=True),
    dict(window=(20, 34), stride=(20, 34)),
    dict(window=(8, 12), stride=(5, 7)),
    dict(window=(8, 12), stride=(8, 12)),
    dict(window=(32, 12), stride=(3, 9)),  # higher than the image
    dict(window=(40, 50), stride=(40, 50), flip=True),
    dict(window=(12, 16), stride=(6, 8), flip=True),
    dict(scales=(0.5, 1.0, 1.75)),
    dict(scales=(0.75,), flip=True),
    dict(scales=(0.5, 1.0, 1.5), flip=True, window=(16, 20), stride=(10, 13)),
]


def test_windows_of_hrda_on_an_image_of_cityscapes():
    starts = evaluation_protocol._starts
    assert (starts(1024, 512, 1024), starts(1024, 512, 2048)) == ([0], [0, 512, 1024])
    assert starts(1024, 512, 2000) == [0, 512, 976]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_equals_loops_in_numpy(protocol):
    seen = images()
    expected = np.stack([by_hand(image, **protocol) for image in seen])
    found = run(contextual, seen, **protocol)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert found.shape[1:3] == ((10, 17) if set(protocol) == {"flip"} else (20, 34))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_changes_nothing_where_pixels_do_not_look_around(protocol):
    # With scales the image is a ramp, which bilinear resizing leaves a ramp.
    rows, columns = np.meshgrid(np.arange(20), np.arange(34), indexing="ij")
    ramp = np.stack([3 * rows + columns, 5 * columns, 7 * rows], -1).astype(np.uint8)
    seen = np.stack([ramp, ramp[:, ::-1]]) if "scales" in protocol else images()
    plain = run(pointwise, seen)
    np.testing.assert_allclose(run(pointwise, seen, **protocol), plain, atol=1e-5)


def test_nothing_asked_for_is_the_function_itself():
    assert evaluation_protocol.protocol(pointwise) is pointwise
    assert evaluation_protocol.protocol(pointwise, scales=(1,), window=(), stride=()) is pointwise


def test_the_stride_is_two_thirds_of_the_window_by_default():
    protocol = dict(window=(9, 13))
    np.testing.assert_array_equal(
        run(contextual, images(), **protocol), run(contextual, images(), **protocol, stride=(6, 9))
    )


def test_one_program_for_each_shape():
    wrapped = jax.jit(
        evaluation_protocol.protocol(contextual, flip=True, scales=(0.5, 1.0), window=(8, 12))
    )
    for seed in range(3):
        wrapped(PARAMS, {}, {}, images(seed=seed))
    assert wrapped._cache_size() == 1
    both = wrapped(PARAMS, {}, {}, images(count=3))
    assert wrapped._cache_size() == 2
    one = wrapped(PARAMS, {}, {}, images(count=3)[1:2])
    np.testing.assert_allclose(both[1:2], one, atol=1e-6)


def test_the_evaluator_takes_any_protocol_on_one_and_two_devices():
    label = np.random.default_rng(3).integers(0, K, (2, 40, 68)).astype(np.uint8)
    batch = {"image": images(), "label": label, "valid": np.ones(2, bool), "id": ["a", "b"]}
    protocol = dict(flip=True, scales=(0.5, 1.0), window=(16, 20), stride=(10, 13))
    results = []
    for devices in (1, 2):
        evaluator = make_evaluator(
            evaluation_protocol.protocol(contextual, **protocol), K, jax.local_devices()[:devices]
        )
        results.append(evaluator(PARAMS, {}, {}, [batch], list("abcd"))[0])
    expected = np.stack(
        [resized(by_hand(image, **protocol), (40, 68)).argmax(-1) for image in batch["image"]]
    )
    for result in results:
        assert result["pixel_accuracy"] == pytest.approx((expected == label).mean(), abs=1e-3)
    assert results[0]["miou"] == pytest.approx(results[1]["miou"], abs=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(flip=1), "flip=1 is neither"),
        (dict(scales=()), r"scales=\(\): wants one or more factors above 0"),
        (dict(scales=(1.0, 0.0)), "scales"),
        (dict(scales=(float("nan"),)), "scales"),
        (dict(scales=(True,)), "scales"),
        (dict(window=(8,)), r"window=\(8,\) is not \(height, width\)"),
        (dict(window=(8, 0)), "window"),
        (dict(window=(8, 8.5)), "window"),
        (dict(stride=(4, 4)), r"stride=\(4, 4\) needs a window"),
        (dict(window=(8, 8), stride=(4, -1)), "stride"),
        (dict(window=(8, 8), stride=(4, 9)), "leaves gaps between windows of"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        evaluation_protocol.protocol(pointwise, **settings)


# --- ensembles ---

OTHER = {"kernel": KERNEL[:, ::-1].copy()}


def test_the_ensemble_is_the_weighted_mean_of_logits():
    seen = images()
    predict = evaluation_protocol.ensemble([contextual, contextual], (3, 1))
    found = predict((PARAMS, OTHER), ({}, {}), ({}, {}), seen)
    parts = [np.asarray(contextual(p, {}, {}, seen)) for p in (PARAMS, OTHER)]
    np.testing.assert_allclose(found, 0.75 * parts[0] + 0.25 * parts[1], atol=1e-6)
    alone = evaluation_protocol.ensemble([contextual, contextual], (2, 0))(
        (PARAMS, OTHER), *[({}, {})] * 2, seen
    )
    np.testing.assert_allclose(alone, parts[0], atol=1e-6)


def test_networks_of_several_strides_meet_at_the_size_of_the_image():
    seen = images(1)
    predict = evaluation_protocol.ensemble([contextual, pointwise], (0.5, 0.5))
    found = predict((PARAMS, OTHER), ({}, {}), ({}, {}), seen)
    expected = resized(contextual_by_hand(seen[0]), (20, 34))
    expected = (expected + seen[0] / 255 @ OTHER["kernel"].astype(np.float64)) / 2
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_an_ensemble_of_probabilities_is_their_mean():
    seen = images(1)
    predict = evaluation_protocol.ensemble([contextual, pointwise], (3, 1), "probabilities")
    found = jax.nn.softmax(predict((PARAMS, OTHER), ({}, {}), ({}, {}), seen)[0])
    parts = resized(contextual_by_hand(seen[0]), (20, 34)), seen[0] / 255 @ OTHER["kernel"]
    raised = [np.exp(part - part.max(-1, keepdims=True)) for part in parts]
    a, b = (r / r.sum(-1, keepdims=True) for r in raised)
    np.testing.assert_allclose(found, 0.75 * a + 0.25 * b, atol=1e-6)
    with pytest.raises(ValueError, match="'labels' is not averaged; choose one of logits"):
        evaluation_protocol.ensemble([contextual], (1,), "labels")


def test_protocols_go_round_ensembles():
    seen, protocol = images(), dict(scales=(0.5, 1.0), flip=True, window=(12, 16), stride=(6, 8))
    predict = evaluation_protocol.protocol(
        evaluation_protocol.ensemble([contextual] * 2, (1, 3)), **protocol
    )
    found = predict((PARAMS, OTHER), ({}, {}), ({}, {}), seen)
    parts = [
        evaluation_protocol.protocol(contextual, **protocol)(p, {}, {}, seen)
        for p in (PARAMS, OTHER)
    ]
    np.testing.assert_allclose(found, 0.25 * parts[0] + 0.75 * parts[1], atol=1e-5)


@pytest.mark.parametrize(
    "weights, message",
    [
        ((1.0,), "1 weights for 2 networks"),
        ((1.0, 1.0, 1.0), "3 weights for 2 networks"),
        ((2.0, -1.0), "none may be negative"),
        ((0.0, 0.0), "not all 0"),
        ((float("nan"), 1.0), "none may be negative"),
    ],
)
def test_weights_that_make_no_sense(weights, message):
    with pytest.raises(ValueError, match=message):
        evaluation_protocol.ensemble([pointwise, pointwise], weights)


# --- memory ---


def test_memory_at_paper_scale_is_that_of_a_window():
    """ResNet-101 on 1024x2048: whole, and in windows of a quarter of it, mirrored as well."""
    net = network(DeepLabV2(num_classes=19, aux=False), layers.preprocess)
    small, large = (jax.ShapeDtypeStruct((1, *s, 3), jnp.uint8) for s in ((64, 64), (1024, 2048)))
    params, stats = jax.eval_shape(net.init, jax.random.PRNGKey(0), small)

    def predict(params, stats, memory, images):
        return net.apply(params, stats, images, False)[0]["main"]

    def gigabytes(**protocol):
        wrapped = evaluation_protocol.protocol(predict, **protocol)
        lowered = jax.jit(lambda p, s, i: wrapped(p, s, {}, i).argmax(-1)).lower(
            params, stats, large
        )
        # Unoptimised kernels compile sooner, and buffers are assigned all the same.
        compiled = lowered.compile({"xla_backend_optimization_level": 0})
        return compiled.memory_analysis().temp_size_in_bytes / 2**30

    assert gigabytes() < 4
    # A window's activations (0.65 GiB more than its weights) and three maps of logits.
    assert gigabytes(window=(512, 1024), flip=True) < 1.6

"""HRDA in self-training: the loss of the window, against a transcription in float64 NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from kit.small import QUICK, quick_run

from jaxseg.engine.method import AXIS
from jaxseg.methods import dacs, source_only
from jaxseg.methods.parts import masked, self_training
from jaxseg.methods.parts.appearance import StrongView
from jaxseg.methods.parts.masked import Masking
from jaxseg.methods.parts.self_training import Mixture
from jaxseg.models.backbones.given import given
from jaxseg.models.backbones.stages import Stage
from jaxseg.models.network import network
from jaxseg.models.segmenters.hrda import HRDA, starts
from jaxseg.resize import resize_matrix

K, SIZE, WINDOW, CELL = 3, (16, 32), (8, 16), 4  # classes, images, windows, stride of logits
LEVELS = {"main": 0.9, "hr": 0.1}
VIEW = StrongView(0.0, 0.0, 0.0)
OFF = dict(jitter=0.0, blur_probability=0.0)
COVER = [(top, left) for top in starts(SIZE[0], 8) for left in starts(SIZE[1], 16)]


def trunk(images, train):
    """Means of 4x4 pixels, scaled, as every stage."""
    del train
    n, h, w, c = images.shape
    cells = images.reshape(n, h // CELL, CELL, w // CELL, CELL, c).mean((2, 4)) / 100
    return {f"stage{i}": Stage(cells, CELL) for i in range(1, 5)}


class Linear(nn.Module):
    """Linear logits of the first stage."""

    level: str = ""

    @nn.compact
    def __call__(self, stages, train):
        logits = nn.Dense(K, use_bias=False, name="out")(given(stages, train)["stage1"].features)
        return {self.level: logits} if self.level else logits


MODULE = HRDA(trunk, Linear("main"), Linear(), WINDOW, upsample=True, features=True)


def segmenter(window=WINDOW):
    return network(MODULE.clone(window=window))


class Twin:
    """The network in float64, forward and backward, as written down in the paper's section 3."""

    def __init__(self, net):
        self.head = np.asarray(net["out"]["kernel"], np.float64)
        self.attention = np.asarray(net["attention_head"]["out"]["kernel"], np.float64)

    def cells(self, images):
        images = np.asarray(images, np.float64)
        n, h, w, c = images.shape
        return images.reshape(n, h // CELL, CELL, w // CELL, CELL, c).mean((2, 4)) / 100

    def forward(self, images, corners, drawn):
        """Fused logits at the images' size, those of the detail, and what `backward` needs."""
        images = np.asarray(images, np.float64)
        half = [resize_matrix(n, n // 2, align_corners=False) for n in SIZE]
        context = np.einsum("hH,wW,nHWc->nhwc", *half, images)
        low = self.cells(context)
        attention = 1 / (1 + np.exp(-low @ self.attention))
        shape = (len(images), SIZE[0] // CELL, SIZE[1] // CELL)
        detail, count = np.zeros((*shape, images.shape[-1])), np.zeros((*shape[1:], 1))
        for top, left in corners:
            piece = self.cells(images[:, top : top + WINDOW[0], left : left + WINDOW[1]])
            rows = slice(top // CELL, (top + WINDOW[0]) // CELL)
            columns = slice(left // CELL, (left + WINDOW[1]) // CELL)
            detail[:, rows, columns] += piece
            count[rows, columns] += 1
        detail /= np.maximum(count, 1)
        mask = np.ones(low.shape[1:3])
        if drawn:
            first, last = (np.array(corners[0]) + at for at in (0, WINDOW))
            (top, left), (bottom, right) = first // (2 * CELL), last // (2 * CELL)
            mask[:] = 0
            mask[top:bottom, left:right] = 1
        attention = attention * mask[..., None]
        up = [resize_matrix(n // 2 // CELL, n // CELL, align_corners=False) for n in SIZE]
        full = [resize_matrix(n // CELL, n, align_corners=False) for n in SIZE]
        large = functools.partial(np.einsum, "Hh,Ww,nhwk->nHWk", *up)
        fused = large((1 - attention) * (low @ self.head))
        fused += large(attention) * (detail @ self.head)
        fused = np.einsum("Hh,Ww,nhwk->nHWk", *full, fused)
        return fused, detail, (low, attention, mask, up, full)

    def step(self, images, labels, weights, over_all, corner):
        """Loss of each level and gradients of both kernels, for one window."""
        fused, detail, (low, attention, mask, up, full) = self.forward(images, [corner], True)
        slope, main = slope_of(fused, labels, weights, over_all)
        slope = 0.9 * np.einsum("Hh,Ww,nHWk->nhwk", *full, slope)
        down = functools.partial(np.einsum, "Hh,Ww,nHWk->nhwk", *up)
        plain, detailed = low @ self.head, detail @ self.head
        head = np.einsum("nhwc,nhwk->ck", low, (1 - attention) * down(slope))
        large = np.einsum("Hh,Ww,nhwk->nHWk", *up, attention)
        head += np.einsum("nhwc,nhwk->ck", detail, large * slope)
        gate = down(slope * detailed) - plain * down(slope)
        sigmoid = 1 / (1 + np.exp(-low @ self.attention))
        gate *= mask[..., None] * sigmoid * (1 - sigmoid)
        attend = np.einsum("nhwc,nhwk->ck", low, gate)

        top, left = corner
        cut = (slice(None), slice(top, top + WINDOW[0]), slice(left, left + WINDOW[1]))
        cells = (slice(None), slice(top // CELL, (top + WINDOW[0]) // CELL))
        cells += (slice(left // CELL, (left + WINDOW[1]) // CELL),)
        grow = [resize_matrix(n // CELL, n, align_corners=False) for n in WINDOW]
        window = np.einsum("Hh,Ww,nhwk->nHWk", *grow, detailed[cells])
        slope, hr = slope_of(window, labels[cut], weights[cut], over_all)
        slope = 0.1 * np.einsum("Hh,Ww,nHWk->nhwk", *grow, slope)
        head += np.einsum("nhwc,nhwk->ck", detail[cells], slope)
        return {"main": main, "hr": hr}, head, attend


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def slope_of(logits, labels, weights, over_all):
    """Slope of the weighted cross-entropy, and its value."""
    valid = labels < K
    count = labels.size if over_all else valid.sum()
    weights = np.where(valid, weights, 0) / count
    hot = np.eye(K)[np.where(valid, labels, 0)]
    p = softmax(logits)
    loss = -(weights * np.log((p * hot).sum(-1))).sum()
    return (p - hot) * weights[..., None], loss


def batches(steps, n=2):
    rng = np.random.default_rng(5)
    for _ in range(steps):
        label = rng.integers(0, K, (n, *SIZE)).astype(np.int32)
        label[:, :2] = 255
        images = [rng.normal(60 * i, 60, (n, *SIZE, 3)).astype(np.float32) for i in (0, 1)]
        yield {"source_image": images[0], "source_label": label, "target_image": images[1]}


def pasted(key, labels):
    """Which pixels of the source the mixture has."""

    def one(key, labels):
        return self_training.mask_of_classes(key, labels, K, Mixture(VIEW))

    keys, labels = key[None], jnp.asarray(labels)[None]
    return np.asarray(jax.vmap(one, axis_name=AXIS)(keys, labels))[0]


def corner_of(images, key):
    """The window that the network draws from this key."""
    draw = nn.apply(lambda m: m._draw(images), MODULE)
    return tuple(map(int, draw({}, rngs={"dropout": key})))


def test_two_steps_of_dacs_equal_a_transcription():
    """0.9 times the loss of the fused logits, 0.1 times that of the window, on source and mixture;
    pseudo labels from windows that cover the image.
    """
    rate, threshold, over_all = 1e-2, 0.5, True
    method = dacs.make(
        segmenter(), num_classes=K, segmentation_weights=LEVELS, threshold=threshold, decay=0.9,
        over_all=over_all, **OFF,
    )  # fmt: skip
    data = list(batches(2))
    start, end, metrics = quick_run(method, {"gen": optax.sgd(rate)}, data)
    net = start.params["gen"]["segmenter"]
    twin = Twin(net)
    for step, batch in enumerate(data):  # the teacher of steps 0 and 1 is the student
        p = softmax(twin.forward(batch["target_image"], COVER, False)[0])
        weights = np.full(p.shape[:3], (p.max(-1) >= threshold).mean())
        key = jax.random.fold_in(jax.random.fold_in(start.key, step), 0)
        source_key, mix_key, net_key = jax.random.split(jax.random.fold_in(key, 0), 3)
        mask = pasted(jax.random.split(mix_key)[0], batch["source_label"])
        images = np.where(mask[..., None], batch["source_image"], batch["target_image"])
        labels = np.where(mask, batch["source_label"], p.argmax(-1))
        weights = np.where(mask, 1.0, weights)
        first, second = (corner_of(images, key) for key in (source_key, net_key))
        losses, head, attend = twin.step(
            batch["source_image"], batch["source_label"], np.ones_like(weights), over_all, first
        )
        mixed, more, also = twin.step(images, labels, weights, over_all, second)
        twin.head = twin.head - rate * (head + more)
        twin.attention = twin.attention - rate * (attend + also)
    for level in LEVELS:
        np.testing.assert_allclose(metrics[f"segmentation/{level}"], losses[level], rtol=1e-4)
        np.testing.assert_allclose(metrics[f"mixed/{level}"], mixed[level], rtol=1e-4)
    found = end.params["gen"]["segmenter"]
    np.testing.assert_allclose(found["out"]["kernel"], twin.head, rtol=1e-4, atol=1e-6)
    attention = found["attention_head"]["out"]["kernel"]
    np.testing.assert_allclose(attention, twin.attention, rtol=1e-4, atol=1e-6)
    images = data[0]["target_image"]
    logits = jax.jit(method.predict, compiler_options=QUICK)(
        end.params, end.stats, end.memory, images
    )
    expected = twin.forward(images, COVER, False)[0]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_masked_images_on_top_of_source_only_learn_the_window_too():
    plain = source_only.make(segmenter(), num_classes=K, segmentation_weights=LEVELS)
    plain = plain._replace(reads=(*plain.reads, "target_image"))
    masking = Masking(1.0, block=8, threshold=0.3)
    lifted = masked.masked(plain, segmenter(), LEVELS, masking)
    data = list(batches(1))
    start, state, metrics = quick_run(lifted, {"gen": optax.sgd(1e-2)}, data)
    twin, labels = Twin(start.params["gen"]["segmenter"]), data[0]["source_label"]
    ones = np.ones(labels.shape)
    # It is the losses of one of the windows that can be drawn, and they all differ.
    losses = [
        tuple(twin.step(data[0]["source_image"], labels, ones, False, corner)[0].values())
        for corner in itertools.product((0,), (0, 8))
    ]
    found = [metrics[f"segmentation/{level}"] for level in LEVELS]
    assert np.isclose(found, losses, rtol=1e-4).all(1).sum() == 1 and losses[0] != losses[1]
    assert metrics["masked"] > 0 and state.memory["teacher"]["updates"] == 1

"""The update against a float64 NumPy transcription of the reference's order, devices and slices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.small import C, K, linear_discriminator, linear_segmenter, run
from kit.small import linear_batches as batches

from jaxseg.engine import optim, schedules
from jaxseg.engine.method import AXIS, Method
from jaxseg.engine.update import init_state, make_update
from jaxseg.methods import advent, source_only

SEG, ADV = {"main": 1.0, "aux": 0.1}, {"main": 0.3, "aux": 0.07}
LR, LR_D, STEPS, POWER, WD, MOMENTUM = 0.05, 0.01, 10, 0.9, 5e-4, 0.9


def make_advent():
    method = advent.make(
        linear_segmenter(),
        linear_discriminator(),
        num_classes=K,
        segmentation_weights=SEG,
        adversarial_weights=ADV,
    )
    gen = optim.sgd(
        schedules.poly(LR, STEPS, POWER),
        momentum=MOMENTUM,
        weight_decay=WD,
        multipliers=[("_head/", 10.0)],
    )
    return method, {"gen": gen, "disc": optim.adam(schedules.poly(LR_D, STEPS, POWER))}


class Transcription:
    """One update, batch of one, by hand in float64: gradients of the segmenter (source CE, target
    fooling), then of the discriminators on the old predictions, then all optimisers step."""

    def __init__(self, start):
        gen, disc = start.params["gen"]["segmenter"], start.params["disc"]
        self.w = {
            "main": np.float64(gen["main_head"]["kernel"]),
            "aux": np.float64(gen["backbone"]["kernel"]),
        }
        self.d = {
            level: [np.float64(disc[level]["kernel"]), np.float64(disc[level]["bias"])]
            for level in ADV
        }
        self.velocity = {level: np.zeros_like(w) for level, w in self.w.items()}
        self.m = {level: [np.zeros((K, 1)), np.zeros(1)] for level in ADV}
        self.v = {level: [np.zeros((K, 1)), np.zeros(1)] for level in ADV}
        self.i = 0

    @staticmethod
    def upsampling(small, large):
        matrix = np.zeros((large, small))
        for row in range(large):
            at = row * (small - 1) / (large - 1)
            low = min(int(np.floor(at)), small - 2)
            matrix[row, low], matrix[row, low + 1] = 1 - (at - low), at - low
        return matrix

    def forward(self, image, level):
        image = np.float64(image[0])
        h, w, _ = image.shape
        pooled = image.reshape(h // 2, 2, w // 2, 2, C).mean((1, 3))
        up = np.einsum(
            "Hh,Ww,hwc->HWc", self.upsampling(h // 2, h), self.upsampling(w // 2, w), pooled
        )
        logits = up @ self.w[level]  # the linear map and the resize commute
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return up, p / p.sum(-1, keepdims=True)

    def step(self, batch):
        grads = {level: np.zeros((C, K)) for level in self.w}
        maps = {}
        for level in ADV:
            up, p = self.forward(batch["source_image"], level)
            label = batch["source_label"][0]
            valid = label != 255
            residual = (p - np.eye(K)[np.where(valid, label, 0)]) * valid[..., None] / valid.sum()
            grads[level] += SEG[level] * np.einsum("hwc,hwk->ck", up, residual)
            source_map = -p * np.log2(p + 1e-30) / np.log2(K)
            up, p = self.forward(batch["target_image"], level)
            target_map = -p * np.log2(p + 1e-30) / np.log2(K)
            kernel, bias = self.d[level]
            score = target_map @ kernel + bias
            # BCE with label 0 (source): gradient sigmoid(score) / number of scores
            d_map = (1 / (1 + np.exp(-score))) / score.size * kernel[:, 0]
            d_p = d_map * -(np.log2(p + 1e-30) + 1 / np.log(2)) / np.log2(K)
            d_logits = p * (d_p - (p * d_p).sum(-1, keepdims=True))
            grads[level] += ADV[level] * np.einsum("hwc,hwk->ck", up, d_logits)
            maps[level] = (source_map, target_map)
        grads_d = {}
        for level, (source_map, target_map) in maps.items():
            kernel, bias = self.d[level]
            grad_kernel, grad_bias = np.zeros((K, 1)), np.zeros(1)
            for m, domain in ((source_map, 0.0), (target_map, 1.0)):
                score = m @ kernel + bias
                d_score = 0.5 * (1 / (1 + np.exp(-score)) - domain) / score.size
                grad_kernel += np.einsum("hwk,hwo->ko", m, d_score)
                grad_bias += d_score.sum((0, 1))
            grads_d[level] = [grad_kernel, grad_bias]
        decay = (1 - self.i / STEPS) ** POWER
        for level in self.w:
            self.velocity[level] = (
                MOMENTUM * self.velocity[level] + grads[level] + WD * self.w[level]
            )
            factor = 10.0 if level == "main" else 1.0
            self.w[level] = self.w[level] - factor * LR * decay * self.velocity[level]
        for level in ADV:
            for j in range(2):
                g = grads_d[level][j]
                self.m[level][j] = 0.9 * self.m[level][j] + 0.1 * g
                self.v[level][j] = 0.99 * self.v[level][j] + 0.01 * g * g
                m_hat = self.m[level][j] / (1 - 0.9 ** (self.i + 1))
                v_hat = self.v[level][j] / (1 - 0.99 ** (self.i + 1))
                self.d[level][j] = self.d[level][j] - LR_D * decay * m_hat / (np.sqrt(v_hat) + 1e-8)
        self.i += 1


def test_four_steps_of_advent_equal_the_transcription():
    method, txs = make_advent()
    data = list(batches(4))
    start, end, _ = run(method, txs, data)
    by_hand = Transcription(start)
    for batch in data:
        by_hand.step(batch)
    gen = end.params["gen"]["segmenter"]
    np.testing.assert_allclose(gen["main_head"]["kernel"], by_hand.w["main"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(gen["backbone"]["kernel"], by_hand.w["aux"], rtol=2e-5, atol=2e-6)
    for level in ADV:
        got = end.params["disc"][level]
        np.testing.assert_allclose(got["kernel"], by_hand.d[level][0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got["bias"], by_hand.d[level][1], rtol=1e-4, atol=1e-5)
    assert int(end.step) == 4


def test_two_devices_equal_one_though_their_masks_differ():
    method, _ = make_advent()
    txs = {"gen": optax.sgd(0.1), "disc": optax.sgd(0.1)}
    data = list(batches(3, n=4))
    for batch in data:
        batch["source_label"][0] = 255  # one device has far fewer labelled pixels
    one, two = (run(method, txs, data, devices)[1:] for devices in (1, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), one, two)


def test_micro_batches_equal_the_whole_batch_when_their_masks_are_even():
    method, _ = make_advent()
    txs = {"gen": optax.sgd(0.1), "disc": optax.sgd(0.1)}
    data = list(batches(3, n=4))
    whole, sliced = (run(method, txs, data, 1, accumulate)[1:] for accumulate in (1, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, sliced)


def test_gradients_are_clipped_after_the_devices_mean():
    method, _ = make_advent()
    data = list(batches(1, n=2))
    # The devices' own gradients differ in length: clipped one by one they would have another mean.
    data[0]["source_image"][0] *= 20

    def moved(clip, devices):
        sgd = optim.sgd(lambda step: 0.5, momentum=0.0, weight_decay=0.0, clip=clip)
        start, end, _ = run(method, {"gen": sgd, "disc": optax.sgd(0.1)}, data, devices)
        movement = jax.tree.map(np.subtract, end.params, start.params)
        leaves = jax.tree.leaves(movement["gen"])
        return movement, np.sqrt(sum(float(np.square(leaf).sum()) for leaf in leaves))

    assert moved(0.0, 1)[1] > 1.0, "without a limit the gradient is more than 2 long"
    (one, length), (two, _) = moved(0.25, 1), moved(0.25, 2)
    np.testing.assert_allclose(length, 0.5 * 0.25, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), one, two)


def test_uneven_micro_batches_are_refused():
    method, txs = make_advent()
    with pytest.raises(ValueError, match="batch of 3 .* 2 micro-batches"):
        run(method, txs, list(batches(1, n=3)), accumulate=2)


def two_player_method(alternate):
    """gen minimises (g - d)^2 / 2 and disc (d + g)^2 / 2, both from 1 and with rate 1/2."""

    def init(key, batch):
        del key, batch
        return {"gen": {"x": jnp.ones(())}, "disc": {"x": jnp.ones(()) * 3}}, {}, {}

    def gen(params, carry, batch, key):
        return 0.5 * (params["gen"]["x"] - params["disc"]["x"]) ** 2, carry

    def disc(params, carry, batch, key):
        return 0.5 * (params["disc"]["x"] + params["gen"]["x"]) ** 2, carry

    return Method(init, {"disc": disc, "gen": gen}, lambda *a: None, alternate)


@pytest.mark.parametrize(
    "alternate, expected",
    # disc: 3 - (3 + 1)/2 = 1; gen sees 3 (simultaneous) or the new 1 (alternate).
    [(False, (2.0, 1.0)), (True, (1.0, 1.0))],
)
def test_order_of_play(alternate, expected):
    txs = {"gen": optax.sgd(0.5), "disc": optax.sgd(0.5)}
    data = [{"x": np.zeros((1, 1), np.float32)}]
    _, end, _ = run(two_player_method(alternate), txs, data)
    assert (float(end.params["gen"]["x"]), float(end.params["disc"]["x"])) == expected


def test_a_player_without_a_loss_stands_still():
    method, txs = make_advent()
    warm = method._replace(losses=method.warmup)
    start, end, metrics = run(warm, txs, list(batches(2)))
    jax.tree.map(np.testing.assert_array_equal, start.params["disc"], end.params["disc"])
    jax.tree.map(np.testing.assert_array_equal, start.opt["disc"], end.opt["disc"])
    assert "adversarial/main" not in metrics
    moved = end.params["gen"]["segmenter"]["backbone"]["kernel"]
    assert np.abs(moved - start.params["gen"]["segmenter"]["backbone"]["kernel"]).max() > 1e-4


def test_source_only_is_advent_without_target_weights():
    txs = {"gen": optax.sgd(0.1), "disc": optax.sgd(0.1)}
    settings = dict(num_classes=K, segmentation_weights=SEG)
    zero = {level: 0.0 for level in ADV}
    adversarial = advent.make(
        linear_segmenter(), linear_discriminator(), adversarial_weights=zero, **settings
    )
    plain = source_only.make(linear_segmenter(), **settings)
    data = list(batches(3))
    kernels = []
    for method in (adversarial, plain):
        players = {p: txs[p] for p in method.losses}
        state = jax.jit(
            lambda k, method=method, players=players: init_state(method, players, k, data[0])
        )(jax.random.PRNGKey(1))
        gen = {"segmenter": {
            "main_head": {"kernel": jnp.ones((C, K)) * 0.1},
            "backbone": {"kernel": jnp.ones((C, K)) * 0.2},
        }}  # fmt: skip
        state = state._replace(params={**state.params, "gen": gen})
        update = jax.pmap(
            make_update(method, players), AXIS, in_axes=(None, 0), out_axes=(None, None),
            devices=jax.devices()[:1],
        )  # fmt: skip
        for batch in data:
            state, _ = update(state, {k: v[None] for k, v in batch.items()})
        kernels.append(np.asarray(state.params["gen"]["segmenter"]["main_head"]["kernel"]))
    np.testing.assert_allclose(*kernels, rtol=1e-6)

"""Self-training: the teacher, pseudo labels, mixing, and whole steps against float64 versions."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.small import QUICK, K, linear_segmenter, on_one_device, run, three_channels

from jaxseg.data import colour
from jaxseg.engine.method import Carry
from jaxseg.errors import UserError
from jaxseg.methods import cbst, dacs, daformer
from jaxseg.methods.parts import appearance, feature_distance, masked, self_training, teacher
from jaxseg.methods.parts.classes import Rarity, weighed
from jaxseg.methods.parts.feature_distance import FeatureDistance
from jaxseg.methods.parts.masked import Masking
from jaxseg.methods.parts.self_training import Mixture
from jaxseg.methods.parts.teacher import Follow
from jaxseg.models.network import Network
from jaxseg.resize import resize_matrix

VIEW = appearance.StrongView(0.0, 0.0, 0.0)
OFF = dict(jitter=0.0, blur_probability=0.0)


# --- the teacher ---


def test_decays_of_the_papers():
    """DAFormer: 0, 1/2, 0.9, 0.99 in updates 0, 1, 9, 99, then 0.999; DACS one step later."""
    net, stats = {"w": jnp.ones(2)}, {"s": jnp.full(2, 5.0)}

    def decay_of(number, follow):
        old = {"params": {"w": jnp.zeros(2)}, "stats": {"s": jnp.ones(2)}}
        old |= {"updates": jnp.asarray(number), "step": jnp.asarray(number)}
        new = teacher.updated(old, net, stats, jnp.asarray(number), follow)
        assert new["updates"] == number + 1
        assert (new["stats"]["s"] == (5 if number == 0 else 1)).all()  # never averaged
        return 1 - float(new["params"]["w"][0])

    expected = {0: 0, 1: 0.5, 9: 0.9, 99: 0.99, 999: 0.999, 5000: 0.999}
    for number, value in expected.items():
        assert decay_of(number, Follow(0.999)) == pytest.approx(value, abs=1e-6)
    for number, value in {0: 0, 1: 0, 2: 0.5, 10: 0.9, 100: 0.99, 700: 0.99}.items():
        assert decay_of(number, Follow(0.99, behind=True)) == pytest.approx(value, abs=1e-6)


def test_micro_batches_of_a_step_update_the_teacher_once():
    net = {"w": jnp.ones(1)}
    first = teacher.updated(teacher.empty(net, {}), net, {}, jnp.asarray(0), Follow(0.9))
    moved = {"w": jnp.full(1, 3.0)}
    second = teacher.updated(first, moved, {}, jnp.asarray(1), Follow(0.9))
    again = teacher.updated(second, moved, {}, jnp.asarray(1), Follow(0.9))
    assert float(second["params"]["w"][0]) == 2.0 == float(again["params"]["w"][0])
    assert again["updates"] == 2


def test_labels_by_the_mirrored_image_as_well():
    """Probabilities are averaged, not logits, and the statistics see both images."""
    images = np.random.default_rng(0).normal(size=(2, 3, 5, 2)).astype(np.float32)
    ramp = np.linspace(0.2, 1.7, 5, dtype=np.float32)[None, None, :, None]  # not symmetric

    def apply(params, stats, images, train, key):
        return {"main": images * ramp}, {"seen": stats["seen"] + images[:, :, 0].sum()}

    def softmax(x):
        odds = np.exp(np.float64(x))
        return odds / odds.sum(-1, keepdims=True)

    student = {"params": {}, "stats": {"seen": jnp.zeros(())}}
    found, after = teacher.look(Network(None, apply), student, jnp.asarray(images), mirrored=True)
    expected = (softmax(images * ramp) + softmax(images[:, :, ::-1] * ramp)[:, :, ::-1]) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    edges = images[:, :, 0].sum() + images[:, :, -1].sum()
    np.testing.assert_allclose(after["stats"]["seen"], edges, rtol=1e-5)
    found, _ = teacher.look(Network(None, apply), student, jnp.asarray(images))
    np.testing.assert_allclose(found, softmax(images * ramp), rtol=1e-5)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decays_that_cannot_be_are_refused(decay):
    with pytest.raises(UserError, match="decay"):
        dacs.make(linear_segmenter(), num_classes=K, segmentation_weights={"main": 1}, decay=decay)


def test_pseudo_labels_weigh_by_the_share_that_is_sure():
    p = np.full((2, 10, 5, 3), 0.1, np.float32)
    p[..., 1] = 0.8
    p[0, :4, :, 1], p[0, :4, :, 0] = 0.01, 0.98  # 20 of 100 pixels
    found = on_one_device(lambda p: teacher.pseudo_labels(p, 0.968, (0.1, 0.2)))(p)
    assert (found.labels[0, :4] == 0).all() and (found.labels[1] == 1).all()
    np.testing.assert_allclose(found.weights[:, 1:8], 0.2, rtol=1e-6)
    assert (found.weights[:, 0] == 0).all() and (found.weights[:, 8:] == 0).all()
    none = on_one_device(lambda p: teacher.pseudo_labels(p, 0.99))(p)
    assert (none.weights == 0).all()


# --- mixtures ---


@pytest.mark.parametrize("number, chosen", [(1, 1), (2, 1), (5, 3), (7, 4), (19, 10)])
@pytest.mark.parametrize("of_batch", [False, True])
def test_half_of_the_classes_are_pasted(number, chosen, of_batch):
    labels = np.arange(3 * 20).reshape(3, 4, 5) % number
    mask = on_one_device(
        lambda key, y: self_training.mask_of_classes(key, y, 19, Mixture(VIEW, of_batch))
    )(jax.random.PRNGKey(3), labels)
    for image, own in zip(labels, np.asarray(mask), strict=True):
        picked = set(image[own])
        assert not picked & set(image[~own])
        assert len(picked) == chosen


def test_unlabelled_pixels_are_a_class_only_in_the_papers_code():
    labels = np.full((1, 2, 2), 255)
    for ignored in (False, True):
        mixture = Mixture(VIEW, of_batch=True, ignored=ignored)
        mask = on_one_device(lambda k, y, m=mixture: self_training.mask_of_classes(k, y, 4, m))(
            jax.random.PRNGKey(0), labels
        )
        assert bool(mask.all()) == ignored and bool(mask.any()) == ignored


def test_sizes_must_agree():
    batch = {"source_image": jnp.zeros((1, 4, 4, 3)), "target_image": jnp.zeros((1, 4, 6, 3))}
    with pytest.raises(UserError, match=r"\(4, 4\) cannot be mixed with target images of \(4, 6\)"):
        self_training.mixed(jax.random.PRNGKey(0), batch, None, 3, Mixture(VIEW))


def test_means_over_labelled_and_over_all_pixels():
    logits = jnp.zeros((1, 2, 2, 4))
    labels = jnp.array([[[0, 255], [255, 1]]])
    weights = jnp.array([[[1.0, 1.0], [1.0, 0.5]]])
    nats = np.log(4)
    for over_all, expected in ((False, 1.5 * nats / 2), (True, 1.5 * nats / 4)):
        mean = functools.partial(self_training.mean_loss, over_all=over_all)
        np.testing.assert_allclose(
            on_one_device(mean)(logits, labels, weights), expected, rtol=1e-6
        )


def test_pseudo_labels_weigh_classes_by_hand():
    """Weights 1 and 3, pixels of both and an ignored one: the mean weight of the valid is 5 / 3."""
    logits = jnp.log(jnp.array([[[[0.5, 0.5], [0.8, 0.2], [0.9, 0.1], [0.5, 0.5]]]]))
    labels, sure = jnp.array([[[0, 1, 0, 255]]]), jnp.array([[[1.0, 0.5, 0.5, 1.0]]])
    losses = -np.log([0.5, 0.2, 0.9]) * [1, 0.5, 0.5]
    for share in (0.0, 0.25, 1.0):
        factor = 1 - share + share * np.array([1, 3, 1]) / (5 / 3)
        mean = functools.partial(self_training.mean_loss, over_all=False)

        def loss(logits, labels, sure, share=share, mean=mean):
            return mean(logits, labels, weighed(labels, sure, Rarity(0.0, (1, 3), share)))

        found = on_one_device(loss)(logits, labels, sure)
        np.testing.assert_allclose(found, (factor * losses).mean(), rtol=1e-6)


def test_pasted_labels_weigh_classes_by_hand():
    """Weights 1 and 3. Pasted pixels of both classes and an ignored one: their mean is 2; the
    teacher's pixels, of both classes, have a share and a mean of their own.
    """
    labels = jnp.array([[[0, 1, 255, 1, 0, 0]]])
    mask = jnp.array([[[True, True, True, False, False, False]]])
    sure = jnp.array([[[1.0, 1.0, 1.0, 0.5, 0.5, 0.5]]])
    for weighted, pseudo in ((0.5, 0.0), (0.5, 0.25), (0.0, 1.0)):
        rarity = Rarity(weighted, (1, 3), pseudo)

        def of(labels, sure, mask, rarity=rarity):
            return weighed(labels, sure, rarity, mask)

        found = on_one_device(of)(labels, sure, mask)
        true = 1 - weighted + weighted * np.array([1, 3, 0]) / 2
        others = 1 - pseudo + pseudo * np.array([3, 1, 1]) / (5 / 3)
        expected = np.array([[[*true, *(0.5 * others)]]])
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("share", ["weighted", "pseudo_weighted"])
def test_class_weights_are_not_divided_by_all_pixels(share):
    given = {share: 0.5, "class_weights": (1, 2, 3), "over_all": True}
    with pytest.raises(UserError, match="over_all=True and class weights .*: choose one"):
        dacs.make(linear_segmenter(), num_classes=K, segmentation_weights={"main": 1.0}, **given)


def test_sure_pseudo_labels_lose_what_true_ones_do():
    """With weights of 1 both shares mean the same; without any valid pixel the loss is 0."""
    rng = np.random.default_rng(1)
    outputs = {"main": jnp.asarray(rng.normal(size=(2, 3, 4, 3)), jnp.float32)}
    rarity = Rarity(0.4, (1.0, 5.0, 0.5), 0.4)

    def both(labels):
        of = functools.partial(self_training.level_losses, outputs, {"main": 1.0}, labels)
        sure = weighed(labels, jnp.ones((2, 3, 4)), rarity)
        return of(None, False, rarity)["main"], of(sure, False, rarity)["main"]

    found, expected = on_one_device(both)(jnp.asarray(rng.choice([0, 1, 2, 255], (2, 3, 4))))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert [float(x) for x in on_one_device(both)(jnp.full((2, 3, 4), 255))] == [0, 0]


# --- appearance ---


def test_strong_views_adjust_as_the_host_does():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 9, 11, 3)).astype(np.uint8)
    factors, turn = rng.uniform(0.7, 1.3, (3, 3)), rng.uniform(-0.3, 0.3, 3)
    found = appearance.adjust(images.astype(np.float32), jnp.asarray(factors), jnp.asarray(turn))
    for i, image in enumerate(images):
        b, c, s = factors[i]
        expected = colour.adjust(image, brightness=b, contrast=c, saturation=s, hue=turn[i])
        assert np.abs(np.asarray(found[i]) - expected).max() < 0.75
    sigma = np.array([0.3, 0.8, 1.15])
    blurred = appearance.blur(jnp.asarray(images, jnp.float32), jnp.asarray(sigma), 1.15)
    for i, image in enumerate(images):
        assert np.abs(np.asarray(blurred[i]) - colour.blur(image, sigma[i])).max() < 2.5
    flat = jnp.full((1, 9, 9, 3), 77.0)
    np.testing.assert_allclose(appearance.blur(flat, jnp.ones(1), 1.15), 77, rtol=1e-6)


def test_strong_views_adjust_as_kornia_does():
    """Brightness added, contrast about black, saturation and hue of HSV, by colorsys in float64."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 5, 7, 3)).astype(np.float32)
    images[0, 0] = 128.0  # greys have no hue
    factors, turn = rng.uniform(0.6, 1.4, (4, 3)), rng.uniform(-0.3, 0.3, 4)
    found = appearance.adjust_by_sums(images, jnp.asarray(factors), jnp.asarray(turn))
    for i, image in enumerate(images):
        brightness, contrast, saturation = factors[i]
        x = np.clip(np.clip(image / 255.0 + brightness - 1, 0, 1) * contrast, 0, 1)
        for at in np.ndindex(x.shape[:2]):
            h, s, v = colorsys.rgb_to_hsv(*x[at])
            expected = colorsys.hsv_to_rgb((h + turn[i]) % 1, min(s * saturation, 1), v)
            np.testing.assert_allclose(found[i][at], 255 * np.array(expected), atol=0.02)
    # A grey of 128 with factors of 0.8, and of 1.2; a dark one of 20.
    grey = jnp.stack([jnp.full((2, 2, 3), level) for level in (128.0, 128.0, 20.0)])
    same = jnp.array([[0.8] * 3, [1.2] * 3, [0.8] * 3])
    told = appearance.adjust_by_sums(grey, same, jnp.zeros(3))[:, 0, 0, 0]
    np.testing.assert_allclose(told, [0.8 * 77, 1.2 * 179, 0.0], rtol=1e-5)
    view = appearance.StrongView(0.2, 1.0, 0.0, colours="kornia")
    changed = appearance.strong_view(jax.random.PRNGKey(0), grey, view)
    plain = appearance.strong_view(
        jax.random.PRNGKey(0), grey, view._replace(colours="torchvision")
    )
    assert np.abs(changed - grey).mean() > np.abs(plain - grey).mean()


def test_whether_is_drawn_for_a_batch_or_an_image_and_how_much_for_each():
    """As the papers' code: one number tells for a batch whether colours change, each image has its
    own factors then.
    """
    images = jnp.broadcast_to(jnp.arange(48.0).reshape(4, 4, 3) * 3 + 50, (6, 4, 4, 3))
    for per_image in (False, True):
        changed = set()
        for seed in range(12):
            view = appearance.StrongView(0.4, 0.5, 0.0, per_image=per_image)
            out = appearance.strong_view(jax.random.PRNGKey(seed), images, view)
            moved = [bool((x != y).any()) for x, y in zip(out, images, strict=True)]
            assert len({np.asarray(x).tobytes() for x in out}) == sum(moved) + (not all(moved))
            changed.add(sum(moved))
        assert (changed == {0, 6}) != per_image
    same = appearance.strong_view(jax.random.PRNGKey(1), images, VIEW)
    assert (same == images).all()


# --- feature distance ---


def test_things_by_their_share():
    labels = np.zeros((1, 4, 8), int)
    labels[0, :, :4] = 7  # the first feature sees 7 alone
    labels[0, :3, 4:] = 11  # the second 11 in 12 of 16 pixels
    for share, expected in ((0.75, [True, True]), (0.76, [True, False])):
        found = feature_distance.of_things(
            jnp.asarray(labels), (1, 2), FeatureDistance(1.0, (7, 11), share)
        )
        assert list(np.asarray(found)[0, 0]) == expected


def test_distance_has_a_gradient_at_zero_and_without_things():
    settings = FeatureDistance(1.0, (7,))
    features, labels = np.ones((1, 2, 2, 3), np.float32), np.full((1, 4, 4), 7)

    def gradient(features, first, labels):
        return jax.value_and_grad(feature_distance.distance)(features, first, labels, settings)

    value, slope = on_one_device(gradient)(features, features, labels)
    assert value == 0 and (slope == 0).all()
    value, slope = on_one_device(gradient)(features, features + 2, labels)
    np.testing.assert_allclose(value, np.sqrt(12), rtol=1e-6)
    np.testing.assert_allclose(slope, -2 / np.sqrt(12) / 4, rtol=1e-5)
    value, slope = on_one_device(gradient)(features, features + 2, 0 * labels)
    assert value == 0 and (slope == 0).all()


def test_the_first_weights_are_remembered():
    segmenter = linear_segmenter()
    net, stats = segmenter.init(jax.random.PRNGKey(0), None)
    given = segmenter._replace(
        apply=lambda p, s, x, t, k=None: ({"features": p["main_head"]["kernel"]}, s)
    )
    carry = Carry(0, {"segmenter": stats}, feature_distance.start(net, stats), {}, {})
    params = {"gen": {"segmenter": net}}
    first, carry = feature_distance.frozen(given, params, carry, None)
    moved = jax.tree.map(lambda x: x + 1, params)
    later, _ = feature_distance.frozen(given, moved, carry, None)
    assert (first == net["main_head"]["kernel"]).all() and (later == first).all()


# --- masks ---


@pytest.mark.parametrize("size, block, grid", [(1024, 64, 16), (512, 32, 16), (96, 40, 2)])
def test_blocks_are_hidden(size, block, grid):
    settings = Masking(1.0, block, 0.7)
    images = jnp.full((2, size, size, 3), 9.0)
    found = np.asarray(masked.hide(jax.random.PRNGKey(0), images, settings))
    hidden = (found == np.asarray(settings.hidden, np.float32)).all(-1)
    assert ((found == 9).all(-1) ^ hidden).all()
    corners = hidden[:, :: size // grid, :: size // grid][:, :grid, :grid]
    assert (np.kron(corners, np.ones((size // grid,) * 2)) == hidden).all()
    if grid == 16:
        assert abs(hidden.mean() - 0.7) < 0.05


def test_masks_need_target_images():
    method = dacs.make(linear_segmenter(), num_classes=K, segmentation_weights={"main": 1.0})
    blind = method._replace(reads=("source_image", "source_label"))
    settings = Masking(1.0)
    with pytest.raises(UserError, match="no target images"):
        masked.masked(blind, linear_segmenter(), {"main": 1.0}, settings)
    assert masked.masked(method, linear_segmenter(), {}, Masking()) is method
    with pytest.raises(UserError, match="ratio=1"):
        masked.masked(method, linear_segmenter(), {}, Masking(1.0, ratio=1.0))


def test_tokens_are_hidden_by_the_network():
    """The masked branch alone is told the share, and its images are whole."""
    plain, told = three_channels(), []

    def apply(params, stats, images, train, key=None, mask_ratio=0.0):
        told.append(mask_ratio)
        return plain.apply(params, stats, images * (1 - mask_ratio), train, key)

    segmenter = plain._replace(apply=apply)
    method = dacs.make(segmenter, num_classes=K, segmentation_weights={"main": 1.0}, **OFF)
    settings = Masking(1.0, ratio=0.7, tokens=True, view=VIEW)
    lifted = masked.masked(method, segmenter, {"main": 1.0}, settings)
    assert set(lifted.views) == set(method.views)
    rng = np.random.default_rng(0)
    batch = {
        "source_image": rng.uniform(0, 255, (2, 6, 8, 3)).astype(np.float32),
        "source_label": rng.integers(0, K, (2, 6, 8)),
        "target_image": rng.uniform(0, 255, (2, 6, 8, 3)).astype(np.float32),
    }

    def loss(key):
        params, stats, memory = lifted.init(key, batch)
        carry = Carry(jnp.zeros((), jnp.int32), stats, memory, {}, {})
        _, carry = lifted.losses["gen"](params, carry, batch, key)
        pseudo = carry.shared[self_training.PSEUDO]
        net, images = params["gen"]["segmenter"], batch["target_image"]
        outputs, _ = apply(net, stats, images, True, None, 0.7)
        parts = self_training.level_losses(
            outputs, {"main": 1.0}, pseudo.labels, pseudo.weights, False
        )
        return carry.metrics["masked"], parts["main"]

    programs = jax.jit(on_one_device(loss), compiler_options=QUICK)
    found, expected = programs(jax.random.PRNGKey(0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert told == [0.0, 0.0, 0.0, 0.7, 0.7]  # source, teacher, mixture, masked; here
    with pytest.raises(UserError, match=r"config.mic.margins=\(0.1,\): give \(top, bottom\)"):
        masked.masked(method, segmenter, {}, Masking(1.0, margins=(0.1,)))


# --- thresholds of classes ---


@pytest.mark.parametrize("sure", [False, True])
def test_thresholds_keep_the_surest_share(sure):
    """Also where nine in ten pixels have a confidence above 0.996, as those of easy classes."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1, (1, 50, 40)).astype(np.float32)
    if sure:
        confidence = (1 - 10 ** rng.uniform(-5, -2, (1, 50, 40))).astype(np.float32)
    predicted = rng.integers(0, 2, confidence.shape)
    histogram = on_one_device(lambda c, y: cbst.confidences(c, y, 3))(confidence, predicted)
    assert histogram.sum() == 2000 and (histogram[2] == 0).all()
    limits = np.asarray(cbst.thresholds(histogram, 0.2))
    for c in (0, 1):
        kept = (confidence[predicted == c] >= limits[c]).mean()
        assert 0.2 <= kept < 0.22
    assert limits[2] == 1


# --- whole steps ---


def resized(x, size):
    rows, columns = (resize_matrix(n, m) for n, m in zip(x.shape[1:3], size, strict=True))
    return np.einsum("Hh,Ww,nhwc->nHWc", rows, columns, x)


class Twin:
    """The linear network of kit.small in float64: 2x2 means, a linear map, aligned corners."""

    def __init__(self, kernel):
        self.kernel = np.asarray(kernel, np.float64)

    def pooled(self, images):
        n, h, w, c = images.shape
        return np.asarray(images, np.float64).reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    def probabilities(self, images, kernel=None):
        logits = self.pooled(images) @ (self.kernel if kernel is None else kernel)
        logits = resized(logits, images.shape[1:3])
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True)

    def gradient(self, images, labels, weights, over_all):
        """(gradient of the mean loss for the kernel, loss)."""
        p, valid = self.probabilities(images), labels != 255
        count = valid.size if over_all else valid.sum()
        hot = np.eye(K)[np.where(valid, labels, 0)]
        weights = np.where(valid, weights, 0) / count
        loss = -(weights * np.log((p * hot).sum(-1))).sum()
        slope = (p - hot) * weights[..., None]
        rows, columns = (resize_matrix(n // 2, n) for n in images.shape[1:3])
        coarse = np.einsum("Hh,Ww,nHWc->nhwc", rows, columns, slope)
        return np.einsum("nhwc,nhwk->ck", self.pooled(images), coarse), loss


def batches(steps, n=2, size=(8, 10)):
    rng = np.random.default_rng(5)
    for _ in range(steps):
        label = rng.integers(0, K, (n, *size)).astype(np.int32)
        label[:, :2] = 255
        images = [rng.normal(60 * i, 40, (n, *size, 3)).astype(np.float32) for i in (0, 1)]
        yield {"source_image": images[0], "source_label": label, "target_image": images[1]}


@pytest.mark.parametrize("name", ["dacs", "daformer"])
def test_three_steps_equal_a_transcription(name):
    """Teacher before the step, pseudo labels, mixture, both losses, one step of SGD."""
    rate, threshold, over_all = 1e-4, 0.6, name == "daformer"
    shared = dict(num_classes=K, segmentation_weights={"main": 1.0}, threshold=threshold, **OFF)
    shared |= dict(over_all=over_all, decay=0.9, margins=(0.0, 0.25))
    module = {"dacs": dacs, "daformer": daformer}[name]
    method = module.make(three_channels(), **shared)
    data = list(batches(3))
    txs = {"gen": optax.sgd(rate)}
    start, end, metrics = run(method, txs, data)

    twin = Twin(start.params["gen"]["segmenter"]["main_head"]["kernel"])
    tracked = twin.kernel.copy()
    for step, batch in enumerate(data):
        if name == "daformer":
            decay = min(1 - 1 / (step + 1), 0.9)
        else:
            decay = 0.0 if step == 0 else min(1 - 1 / step, 0.9)
        tracked = decay * tracked + (1 - decay) * twin.kernel
        p = twin.probabilities(batch["target_image"], tracked)
        weights = np.full(p.shape[:3], (p.max(-1) >= threshold).mean())
        weights[:, 6:] = 0
        key = jax.random.fold_in(jax.random.fold_in(start.key, step), 0)
        mix_key = jax.random.split(jax.random.fold_in(key, 0), 3)[1]
        mixture = Mixture(VIEW, of_batch=name == "daformer", ignored=name == "daformer")
        mask = np.asarray(
            on_one_device(lambda k, y, m=mixture: self_training.mask_of_classes(k, y, K, m))(
                jax.random.split(mix_key)[0], batch["source_label"]
            )
        )
        images = np.where(mask[..., None], batch["source_image"], batch["target_image"])
        labels = np.where(mask, batch["source_label"], p.argmax(-1))
        weights = np.where(mask, 1.0, weights)
        ones = np.ones_like(weights)
        own, loss = twin.gradient(batch["source_image"], batch["source_label"], ones, over_all)
        other, second = twin.gradient(images, labels, weights, over_all)
        twin.kernel = twin.kernel - rate * (own + other)
    found = end.params["gen"]["segmenter"]["main_head"]["kernel"]
    np.testing.assert_allclose(found, twin.kernel, rtol=2e-4, atol=1e-7)
    remembered = end.memory["teacher"]["params"]["main_head"]["kernel"]
    np.testing.assert_allclose(remembered, tracked, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(metrics["segmentation/main"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["mixed/main"], second, rtol=1e-4)


@pytest.mark.parametrize("name", ["dacs", "daformer", "cbst", "masked"])
def test_one_device_equals_two(name):
    """Each source image has one class, so that the random choice of classes has no effect."""
    data = list(batches(2))
    for batch in data:
        batch["source_label"][:] = 1
    shared = dict(num_classes=K, segmentation_weights={"main": 1.0})
    segmenter = three_channels()
    if name == "cbst":
        method = cbst.make(segmenter, **shared)
    else:
        module = daformer if name == "daformer" else dacs
        method = module.make(segmenter, threshold=0.5, **OFF, **shared)
    if name == "masked":
        # All pixels of the target are of one block: hidden or not is drawn, so nothing is hidden.
        settings = Masking(1.0, block=64, ratio=1e-9, view=VIEW)
        method = masked.masked(method, segmenter, {"main": 1.0}, settings)
    txs = {"gen": optax.sgd(1e-4)}
    _, one, first = run(method, txs, data, devices=1)
    _, two, second = run(method, txs, data, devices=2)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for key in first:
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5, atol=1e-6)


def test_masks_lift_a_method_without_a_teacher():
    from jaxseg.methods import minent

    segmenter = three_channels()
    method = minent.make(
        segmenter, num_classes=K, segmentation_weights={"main": 1.0}, entropy_weights={"main": 0.1}
    )
    lifted = masked.masked(method, segmenter, {"main": 1.0}, Masking(1.0, block=2, threshold=0.3))
    _, state, metrics = run(lifted, {"gen": optax.sgd(1e-4)}, list(batches(2)))
    assert state.memory["teacher"]["updates"] == 2
    assert metrics["masked"] > 0


def test_statistics_are_those_of_both_domains():
    with pytest.raises(UserError, match="give 'both'"):
        dacs.make(
            linear_segmenter(), num_classes=K, segmentation_weights={"main": 1}, statistics="target"
        )
    with pytest.raises(UserError, match="margins"):
        dacs.make(
            linear_segmenter(), num_classes=K, segmentation_weights={"main": 1}, margins=(0.6, 0)
        )


def test_the_teacher_may_be_evaluated():
    method = dacs.make(
        three_channels(), num_classes=K, segmentation_weights={"main": 1.0}, of_teacher=True, **OFF
    )
    data = list(batches(3))
    start, end, _ = run(method, {"gen": optax.sgd(1e-3)}, data)
    images = data[0]["target_image"]
    first = method.predict(start.params, start.stats, start.memory, images)
    kernel = start.params["gen"]["segmenter"]["main_head"]["kernel"]
    twin = Twin(kernel)
    np.testing.assert_allclose(first, twin.pooled(images) @ twin.kernel, rtol=1e-4, atol=1e-4)
    last = method.predict(end.params, end.stats, end.memory, images)
    kernel = np.asarray(end.memory["teacher"]["params"]["main_head"]["kernel"], np.float64)
    np.testing.assert_allclose(last, twin.pooled(images) @ kernel, rtol=1e-4, atol=1e-4)

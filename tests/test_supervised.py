"""Supervised training: losses by hand, mixes, devices, settings, counted class weights."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.alignment import segmenter
from kit.small import K as LINEAR_K
from kit.small import linear_batches, linear_segmenter, on_one_device, run, small_config

from jaxseg.data import transforms
from jaxseg.errors import UserError
from jaxseg.experiment import batches, check
from jaxseg.experiment import method as experiment_method
from jaxseg.experiment.method import make_method
from jaxseg.losses import balance
from jaxseg.methods import dacs, source_only, supervised
from jaxseg.methods.parts import self_training
from jaxseg.methods.parts.classes import Rarity
from jaxseg.run import evaluate, train

K, LN2 = 4, math.log(2)
# Probabilities of one image's four pixels; the third has no label. -log2 of the true class's are
# 1, 2 and 3.
PIXELS = [
    *([1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4, [1 / 8] * 3 + [5 / 8]),
    [1 / 8, 1 / 2, 1 / 8, 1 / 4],
]
LABEL = [0, 1, 255, 2]
DICE = (7 / 15 + 3 / 4 + 5 / 6) / 3
EXPECTED = {
    "cross_entropy": 2 * LN2,
    "weighted": (1 * 1 + 2 * 2 + 3 * 3) / 6 * LN2,
    "focal": (1 / 2 * 1 + 3 / 4 * 2 + 7 / 8 * 3) / 3 * LN2,
    "ohem": 5 / 2 * LN2,
    "dice": DICE,
    "lovasz": (1 / 2 + 3 / 4 + 7 / 8) / 3,
}
SETTINGS = dict(
    num_classes=K, class_weights=(1, 2, 3, 9), focal_gamma=1.0, ohem_threshold=0.3, ohem_minimum=0
)


def data():
    image = np.log(np.array(PIXELS, np.float32)).reshape(1, 2, 2, K)
    return {"source_image": image, "source_label": np.array(LABEL, np.int32).reshape(1, 2, 2)}


def one_step(**given):
    settings = SETTINGS | dict(segmentation_weights={"main": 1.0}) | given
    method = supervised.make(segmenter(), **settings)
    start, end, metrics = run(method, {"gen": optax.sgd(1.0)}, [data()])
    moved = jax.tree.map(np.subtract, start.params, end.params)["gen"]["segmenter"]
    return moved, {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("name", supervised.LOSSES)
def test_each_loss_by_hand(name):
    _, metrics = one_step(losses={name: 0.5})
    kind = "segmentation" if name == "cross_entropy" else name
    assert set(metrics) == {f"{kind}/main", "loss/gen"}
    assert metrics[f"{kind}/main"] == pytest.approx(EXPECTED[name], rel=1e-5)
    assert metrics["loss/gen"] == pytest.approx(0.5 * EXPECTED[name], rel=1e-5)


def test_losses_and_levels_add_up():
    moved, metrics = one_step(
        losses={"cross_entropy": 1.0, "dice": 2.0, "focal": 0.0},
        segmentation_weights={"main": 1.0, "aux": 0.4},
    )
    assert set(metrics) == {
        *("segmentation/main", "segmentation/aux", "dice/main", "dice/aux", "loss/gen")
    }
    assert metrics["loss/gen"] == pytest.approx(1.4 * (2 * LN2 + 2 * DICE), rel=1e-5)
    np.testing.assert_allclose(moved["aux"], 0.4 * moved["main"], rtol=1e-5, atol=1e-7)
    assert np.abs(moved["main"]).max() > 0.1


def test_two_devices_equal_one():
    """All losses at once; the devices have unequal numbers of labelled pixels."""
    method = supervised.make(
        linear_segmenter(),
        num_classes=LINEAR_K,
        segmentation_weights={"main": 1.0, "aux": 0.4},
        losses=dict.fromkeys(supervised.LOSSES, 1.0),
        class_weights=(1.0, 5.0, 0.5),
    )
    steps = list(linear_batches(2, n=4))
    for batch in steps:
        batch["source_label"][0, 2:5] = 255
    ends = [run(method, {"gen": optax.sgd(0.1)}, steps, devices) for devices in (1, 2)]
    for one, two in zip(*(jax.tree.leaves(end[1:]) for end in ends), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def mixed(number=4, size=(24, 32), pairs=((2, 0),), **chances):
    """(before, after) mixing images whose pixels hold image number, row and column."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (number, 6, 8)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    labels[:, :2] = 255
    place = np.broadcast_to(np.arange(size[0] * size[1]).reshape(size), labels.shape)
    images = np.stack([*np.broadcast_arrays(np.arange(number)[:, None, None], place)], -1)
    mix = supervised._mixer(chances, 3, pairs)
    after = jax.jit(mix)(jax.random.PRNGKey(3), jnp.asarray(images), jnp.asarray(labels))
    return images, labels, *map(np.asarray, after)


def test_without_mixes_nothing_is_mixed():
    images, labels, new_images, new_labels = mixed()
    np.testing.assert_array_equal(images, new_images)
    np.testing.assert_array_equal(labels, new_labels)


@pytest.mark.parametrize("name", ["cutmix", "classmix"])
def test_pixels_come_from_the_same_place_with_their_labels(name):
    images, labels, new_images, new_labels = mixed(**{name: 1.0})
    np.testing.assert_array_equal(images[..., 1], new_images[..., 1])
    rows, columns = np.indices(labels.shape[1:])
    np.testing.assert_array_equal(labels[new_images[..., 0], rows, columns], new_labels)
    changed = (new_images[..., 0] != images[..., 0]).mean((1, 2))
    assert changed.max() > 0 and changed.max() < 1
    if name == "classmix":
        pasted = new_images[..., 0] != images[..., 0]
        assert not (new_labels[pasted] == 255).any()


def test_only_the_pairs_are_copied():
    images, labels, new_images, new_labels = mixed(copy_blob=1.0)
    pasted = new_images[..., 0] != images[..., 0]
    assert pasted.any() and (new_labels[pasted] == 2).all()
    np.testing.assert_array_equal(labels[~pasted], new_labels[~pasted])
    # What is pasted was of class 2 where it comes from.
    numbers, places = new_images[pasted].T
    assert (labels.reshape(4, -1)[numbers, places] == 2).all()


def test_mixing_trains_on_the_mixed_labels():
    """Replacing the labels only changes the loss; the step's key decides about mixing."""
    batch = next(linear_batches(1, n=4))
    made = dict(num_classes=LINEAR_K, segmentation_weights={"main": 1.0})
    values = []
    for mixes in (None, {"cutmix": 1.0}, {"cutmix": 1.0}, {"cutmix": 0.0}):
        method = supervised.make(
            linear_segmenter(), losses={"cross_entropy": 1.0}, mixes=mixes, **made
        )
        values.append(float(run(method, {"gen": optax.sgd(0.0)}, [batch])[2]["loss/gen"]))
    assert values[1] == values[2] != values[0] == values[3]


@pytest.mark.parametrize(
    "given, match",
    [
        (dict(losses={"hinge": 1.0}), "losses has 'hinge'; choose from cross_entropy"),
        (dict(losses={"focal": 0.0}), "no loss of any level has a weight"),
        (dict(losses={"focal": -1.0}), "losses.focal=-1.0: give 0 to inf"),
        (dict(mixes={"mixup": 1.0}), "mixes has 'mixup'"),
        (dict(mixes={"cutmix": 1.5}), "mixes.cutmix=1.5: give 0 to 1"),
        (dict(mixes={"copy_blob": 0.5}, copy_pairs=()), "copy_blob without copy_pairs"),
        (dict(losses={"weighted": 1.0}, class_weights=(1, 2)), "2 class_weights for 4 classes"),
        (dict(losses={"weighted": 1.0}, class_weights=("rare",)), "one of inverse, median"),
        (dict(losses={"weighted": 1.0}, class_weights=(1, 2, 3, -1)), "finite and not negative"),
        (dict(losses={"focal": 1.0}, focal_gamma=-1.0), "gamma of at least 0"),
        (dict(losses={"ohem": 1.0}, ohem_threshold=2.0), "OHEM's threshold=2.0"),
        (dict(statistics="target"), "there is no target"),
    ],
)
def test_wrong_settings_are_told(given, match):
    settings = SETTINGS | dict(segmentation_weights={"main": 1.0}, losses={"cross_entropy": 1.0})
    with pytest.raises(UserError, match=match):
        supervised.make(segmenter(), **settings | given)


def test_uncounted_weights_predict_but_do_not_train():
    settings = SETTINGS | dict(class_weights=("median",), losses={"weighted": 1.0})
    with pytest.raises(ValueError, match="'median' must be numbers by now"):
        one_step(**settings)


# --- the methods that adapt ---


@pytest.mark.parametrize("weighted", (0.0, 0.25, 1.0))
def test_a_share_of_the_source_loss_weighs_classes_by_hand(weighted):
    expected = (1 - weighted) * EXPECTED["cross_entropy"] + weighted * EXPECTED["weighted"]
    given = dict(weighted=weighted, class_weights=(1, 2, 3, 9), num_classes=K)
    method = source_only.make(segmenter(), segmentation_weights={"main": 1.0}, **given)
    *_, metrics = run(method, {"gen": optax.sgd(1.0)}, [data()])
    assert float(metrics["loss/gen"]) == pytest.approx(expected, rel=1e-5)
    logits, labels = data()["source_image"], data()["source_label"]

    def of_self_training(logits, labels):
        rarity = Rarity(weighted, (1, 2, 3, 9))
        return self_training.level_losses(
            {"main": logits}, {"main": 1.0}, labels, None, False, rarity
        )

    found = on_one_device(of_self_training)(jnp.asarray(logits), jnp.asarray(labels))
    assert float(found["main"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "given, match",
    [
        (dict(weighted=1.5, class_weights=(1, 2, 3, 9)), "weighted=1.5: give a share of the loss"),
        (dict(weighted=0.5), "0 class_weights for 4 classes"),
        (dict(weighted=0.5, class_weights=("rare",)), "one of inverse, median"),
    ],
)
def test_rarity_that_does_not_fit(given, match):
    for module in (source_only, dacs):
        with pytest.raises(UserError, match=match):
            module.make(segmenter(), num_classes=K, segmentation_weights={"main": 1.0}, **given)


# --- from a config ---


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def config(records):
    return small_config("baseline", records)


def test_pairs_are_named(config):
    settings = config.method.settings
    settings.copy_pairs = (("wall", "somewhere"),)
    make_method(config)  # nobody asks
    settings.mixes.copy_blob = 0.5
    with pytest.raises(UserError, match="'somewhere' is not among the classes of .*cityscapes"):
        make_method(config)
    settings.copy_pairs = (("wall", "road", "sidewalk"),)
    with pytest.raises(UserError, match="is not \\(class copied"):
        make_method(config)
    settings.copy_pairs = (("wall", "road"), ("bicycle", "sidewalk"))
    assert experiment_method._pairs(config, settings.copy_pairs) == ((3, 0), (18, 1))
    config.train.devices = 1
    check.check(config)
    config.train.devices = 2
    with pytest.raises(UserError, match="mixes.copy_blob needs two images a device"):
        check.check(config)


@pytest.mark.parametrize("kind", balance.KINDS)
def test_class_weights_are_counted_over_the_training_split(config, kind):
    assert batches.with_class_weights(config) is config
    config.method.settings.class_weights = (kind,)
    counted = batches.with_class_weights(config)
    source = batches.open_records(config, config.data.source, "train")
    labels = [
        transforms.decode(source[i], where="", size=None, keys=("label",))["label"]
        for i in range(len(source))
    ]
    counts = np.stack([np.bincount(label.ravel(), minlength=256)[:19] for label in labels])
    expected = balance.class_weights(counts, kind)
    found = counted.method.settings.class_weights
    assert len(found) == 19 and found == tuple(expected)
    assert batches.with_class_weights(config).to_dict() == counted.to_dict()
    changed = counted.to_dict()
    changed["method"]["settings"]["class_weights"] = (kind,)
    assert changed == config.to_dict()


def test_a_run_goes_on_where_it_stopped(config, tmp_path, capsys):
    settings = config.method.settings
    settings.losses.weighted = 1.0
    settings.class_weights = ("median",)
    settings.mixes.cutmix = 0.5
    config.train.update(dict(steps=2, devices=1))
    assert train.run(config, str(tmp_path)) == 0
    written = json.loads((tmp_path / "config.json").read_text())
    weights = written["method"]["settings"]["class_weights"]
    assert len(weights) == 19 and min(weights) > 0
    config.train.steps = 3
    assert train.run(config, str(tmp_path)) == 0
    assert "resuming from step 2" in capsys.readouterr().out
    assert evaluate.evaluate(config, str(tmp_path)) is not None
    config.method.settings.class_weights = ("inverse",)
    with pytest.raises(UserError, match="class_weights"):
        train.run(config, str(tmp_path))

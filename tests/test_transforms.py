"""Capped crops, the settings of augmentation, and what their randomness depends on."""

import itertools
import math

import numpy as np
import pytest

from jaxseg.data import codec, colour, pipeline, transforms
from jaxseg.errors import UserError

OFF = dict(
    flip=0.0, scale=(), crop=(), crop_cap=0.0, crop_tries=10, jitter=0.0, brightness=0.0,
    contrast=0.0, saturation=0.0, hue=0.0, blur=0.0, blur_sigma=(0.15, 1.15),
)  # fmt: skip
ALL = dict(
    flip=0.5, scale=(0.5, 2.0), crop=(10, 14), crop_cap=0.3, crop_tries=5, brightness=0.3,
    contrast=0.3, saturation=0.3, hue=0.2, blur=0.5, blur_sigma=(0.5, 1.0),
)  # fmt: skip


def draw(seed, *shape, high=256):
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


def sample(size=(12, 16), seed=0):
    return {
        "image": draw(seed + 1, *size, 3),
        "label": draw(seed + 2, *size, high=19),
        "depth": draw(seed + 3, *size).astype(np.float32),
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


# --- the settings


def test_what_is_off_is_left_out():
    assert transforms.check_augment(OFF) == {}
    assert transforms.check_augment(OFF | {"flip": 0.5}) == {"flip": 0.5}
    on = {"crop": (4, 4), "crop_cap": 0.75, "blur": 0.5}
    details = {"crop_tries": 10, "blur_sigma": (0.15, 1.15)}
    assert transforms.check_augment(OFF | on) == on | details
    assert transforms.check_augment(on) == on
    assert transforms.check_augment(OFF | ALL) == ALL
    assert transforms.check_augment({"jitter": 0.3, "hue": 0.3, "contrast": 0.0}) == {
        "jitter": 0.3, "hue": 0.3,
    }  # fmt: skip


def test_wrong_settings_are_one_line():
    for name, value in (
        ("crop_cap", 1.1), ("crop_cap", "much"), ("crop_tries", 0), ("crop_tries", 2.5),
        ("brightness", 1.1), ("contrast", -0.1), ("saturation", (0.1, 0.2)), ("hue", 0.6),
        ("hue", True), ("blur", 2), ("blur_sigma", ()), ("blur_sigma", (0.0, 1.0)),
        ("blur_sigma", (2.0, 1.0)), ("blur_sigma", 1.0), ("blur_sigma", (1.0, math.inf)),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"^augmentation {name}=.*it must be .*$"):
            transforms.check_augment({name: value})
    with pytest.raises(UserError, match="^no augmentation is called 'blurr'; choose from .*blur"):
        transforms.check_augment({"blurr": 0.5})
    with pytest.raises(UserError, match="^augmentation jitter=0.2 already sets contrast"):
        transforms.check_augment({"jitter": 0.2, "contrast": 0.2})
    with pytest.raises(UserError, match="^augmentation crop_cap needs a crop or a scale"):
        transforms.check_augment({"crop_cap": 0.75})
    with pytest.raises(UserError, match="^augmentation crop_cap needs labels"):
        transforms.augment_sample(
            {"image": draw(0, 6, 6, 3)}, np.random.default_rng(0), crop=(3, 3), crop_cap=0.5
        )


# --- the randomness


def as_ever(before, seed, *, flip=0.0, scale=None, crop=None, jitter=0.0):
    """Flip, scale, crop and jitter with the random draws of the first version: a run's batches must
    not change when a setting is added.
    """
    rng, after = np.random.default_rng(seed), dict(before)
    height, width = crop or before["image"].shape[:2]
    if scale:
        factor = rng.uniform(*scale)
        size = tuple(max(1, round(n * factor)) for n in before["image"].shape[:2])
        after = {k: codec.resize_nearest(v, size) for k, v in before.items() if k != "image"}
        after["image"] = codec.resize_image(before["image"], size)
    if scale or crop:
        old_height, old_width = after["image"].shape[:2]
        down = int(rng.integers(abs(old_height - height) + 1))
        right = int(rng.integers(abs(old_width - width) + 1))
        fill = {"image": 0, "label": 255, "depth": 0}
        for key, array in after.items():
            out = np.full((height, width, *array.shape[2:]), fill[key], array.dtype)
            for y, x in np.ndindex(height, width):
                from_y = y + down if old_height > height else y - down
                from_x = x + right if old_width > width else x - right
                if 0 <= from_y < old_height and 0 <= from_x < old_width:
                    out[y, x] = array[from_y, from_x]
            after[key] = out
    if flip and rng.random() < flip:
        after = {key: array[:, ::-1] for key, array in after.items()}
    if jitter:
        b, c, s = rng.uniform(1 - jitter, 1 + jitter, 3)
        after["image"] = colour.adjust(after["image"], brightness=b, contrast=c, saturation=s)
    return after


def test_the_first_four_settings_draw_as_they_always_have():
    choices = dict(flip=0.5, scale=(0.5, 2.0), crop=(7, 20), jitter=0.4)
    for number in range(16):
        on = {k: v for i, (k, v) in enumerate(choices.items()) if number >> i & 1}
        before = sample(seed=number)
        settings = transforms.check_augment(OFF | on)
        after = transforms.augment_sample(before, np.random.default_rng(number), **settings)
        expected = as_ever(before, number, **on)
        assert after.keys() == expected.keys()
        for key in after:
            np.testing.assert_array_equal(after[key], expected[key])


def test_a_sample_is_a_function_of_its_key_and_is_not_changed():
    before = sample()
    kept = {key: array.copy() for key, array in before.items()}
    first, again, other = (
        transforms.augment_sample(before, np.random.default_rng(seed), **ALL) for seed in (5, 5, 6)
    )
    assert_same(first, again)
    assert_same(before, kept)
    assert not np.array_equal(first["image"], other["image"])


def test_colours_and_blur_leave_the_geometry():
    before = sample()
    geometry = dict(flip=0.5, scale=(0.5, 2.0), crop=(9, 9))
    colours = dict(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3, blur=1.0)
    for seed in range(10):
        plain, painted = (
            transforms.augment_sample(before, np.random.default_rng(seed), **geometry, **extra)
            for extra in ({}, colours)
        )
        np.testing.assert_array_equal(plain["label"], painted["label"])
        np.testing.assert_array_equal(plain["depth"], painted["depth"])
        assert not np.array_equal(plain["image"], painted["image"])


class Asked:
    """A random generator that returns the upper end and records the requests."""

    def __init__(self):
        self.calls = []

    def uniform(self, low, high, number=None):
        self.calls.append((low, high) if number is None else (low, high, number))
        return high if number is None else np.full(number, high)

    def random(self):
        self.calls.append("random")
        return 0.4


def test_the_ranges_and_the_order():
    before, rng = sample(), Asked()
    settings = dict(
        flip=0.4, brightness=0.1, contrast=0.2, saturation=0.3, hue=0.05, blur=0.5,
        blur_sigma=(0.5, 2.0),
    )  # fmt: skip
    after = transforms.augment_sample(before, rng, **settings)
    assert rng.calls == [
        "random", (0.9, 1.1), (0.8, 1.2), (0.7, 1.3), (-0.05, 0.05), "random", (0.5, 2.0),
    ]  # fmt: skip
    expected = colour.adjust(
        before["image"], brightness=1.1, contrast=1.2, saturation=1.3, hue=0.05
    )
    np.testing.assert_array_equal(after["image"], colour.blur(expected, 2.0))
    np.testing.assert_array_equal(after["label"], before["label"])  # 0.4 is not below 0.4
    rng = Asked()
    after = transforms.augment_sample(before, rng, jitter=0.25, hue=0.5, blur=0.4)
    assert rng.calls == [(0.75, 1.25, 3), (-0.5, 0.5), "random"]


# --- the cap


def halves():
    """Left half one class, right half another, an ignored row on top."""
    before = sample((8, 20))
    before["label"] = np.repeat([[3] * 10 + [7] * 10], 8, 0).astype(np.uint8)
    before["label"][0] = 255
    return before


def test_a_capped_crop_is_varied():
    before = halves()

    def share(cap, seed):
        settings = dict(crop=(4, 10), crop_cap=cap, crop_tries=50)
        label = transforms.augment_sample(before, np.random.default_rng(seed), **settings)["label"]
        assert label.shape == (4, 10)
        return max((label == 3).sum(), (label == 7).sum()) / (label != 255).sum()

    assert max(share(0, seed) for seed in range(40)) == 1
    shares = {share(0.7, seed) for seed in range(40)}
    assert shares == {0.5, 0.6, 0.7}  # nothing but the cap is imposed


def test_the_last_window_is_taken_when_none_fits():
    before = sample((8, 20))
    before["label"][:] = 3
    for tries in (1, 4):
        rng, same = (np.random.default_rng(0) for _ in range(2))
        after = transforms.augment_sample(before, rng, crop=(4, 10), crop_cap=0.5, crop_tries=tries)
        offsets = [(same.integers(5), same.integers(11)) for _ in range(tries)]
        assert rng.random() == same.random()
        y, x = offsets[-1]
        np.testing.assert_array_equal(after["image"], before["image"][y : y + 4, x : x + 10])


def test_unlabelled_windows_are_drawn_anew_and_padding_does_not_count():
    before = halves()
    before["label"][1:6] = 255
    for seed in range(20):
        after = transforms.augment_sample(
            before, np.random.default_rng(seed), crop=(2, 20), crop_cap=1.0, crop_tries=100
        )
        assert (after["label"] != 255).any()
    before = halves()  # smaller than the window: 7 rows of 10 pixels of each class, the rest filled
    rng = Asked()
    rng.integers = lambda n: rng.calls.append(n) or 0
    after = transforms.augment_sample(before, rng, crop=(30, 30), crop_cap=0.5)
    assert rng.calls == [23, 11]  # accepted at once: half of what is labelled
    assert (after["label"] == 3).sum() == (after["label"] == 7).sum() == 70
    assert (after["label"] == 255).sum() == 900 - 140


def test_streams_with_everything_on():
    class Source:
        name, split, where = "memory", "train", staticmethod(str)
        keeps_proportions = False

        def __len__(self):
            return 5

        def __getitem__(self, index):
            one = sample(seed=10 * index)
            return {
                "image": codec.encode_png(one["image"]),
                "label": codec.encode_png(one["label"]),
            }

    def take(start, number):
        stream = pipeline.train_stream(
            Source(), size=(12, 16), batch=2, seed=1, augment=ALL, start=start
        )
        batches = list(itertools.islice(stream, number))
        stream.close()
        return batches

    whole = take(0, 5)
    assert whole[0]["source_image"].shape == (2, 10, 14, 3)
    for batch, other in zip(whole[3:], take(3, 2), strict=True):
        assert_same(batch, other)


def test_windows_that_show_a_class_are_varied_as_well():
    """DAFormer's two loops: each window that is looked at for a class is the first of as many draws
    that is varied, or the last of them.
    """
    label = np.zeros((16, 160), np.uint8)
    label[:, :24:2] = 1  # the only varied place
    label[:8, 20:24] = 2
    sample = {"image": np.zeros((16, 160, 3), np.uint8), "label": label}
    rounds = []
    for seed in range(40):
        rng, tries = np.random.default_rng(seed), 0
        for _ in range(4):
            for _ in range(4):
                top, left = (int(rng.integers(n - 16 + 1)) for n in label.shape)
                window, tries = label[top : top + 16, left : left + 16], tries + 1
                if np.bincount(window.ravel()).max() <= 0.75 * window.size:
                    break
            if np.count_nonzero(window == 2) > 3:
                break
        cut = transforms.augment_sample(
            sample, np.random.default_rng(seed), crop=(16, 16), crop_cap=0.75, crop_tries=4,
            shows=(2, 3),
        )  # fmt: skip
        np.testing.assert_array_equal(cut["label"], window)
        rounds.append(tries)
    assert min(rounds) < 4 and max(rounds) > 4

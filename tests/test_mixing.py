"""CutMix, ClassMix and CopyBlob against loops in NumPy.

Each pixel holds its own position (image, row, column), so the output shows what was pasted from
where. Independent loops, which do not use the implementation's random draws, check that the paste
is allowed.
"""

import functools

import jax
import numpy as np
import pytest
from kit.masks import flood

from jaxseg.errors import UserError
from jaxseg.methods.parts import mixing

N, H, W, K = 4, 12, 16, 6
DRAWS = 60


def patches(seed):
    """Labels in patches of 2 x 2, some ignored; each image lacks one class."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, K - 1, (N, H // 2, W // 2))
    coarse += coarse >= np.arange(N)[:, None, None]
    coarse = np.where(rng.random(coarse.shape) < 0.1, 255, coarse)
    return coarse.repeat(2, 1).repeat(2, 2).astype(np.int32)


IMAGES, LABELS = np.stack(np.indices((N, H, W)), -1).astype(np.uint8), patches(0)
PAIRS = ((1, 2), (3, 1), (3, 4))


def keys(number=DRAWS, seed=0):
    return jax.random.split(jax.random.PRNGKey(seed), number)


def classmix(key, images, labels, **settings):
    return mixing.classmix(key, images, labels, num_classes=K, **settings)


def copy_blob(key, images, labels, **settings):
    return mixing.copy_blob(key, images, labels, PAIRS, **settings)


MIXERS = {"cutmix": mixing.cutmix, "classmix": classmix, "copy_blob": copy_blob}
each_mixer = pytest.mark.parametrize("mix", MIXERS.values(), ids=MIXERS)


@functools.cache
def compiled(mix, settings):
    def one(key, images, labels, probability):
        return mix(key, images, labels, probability=probability, **dict(settings))

    return jax.jit(jax.vmap(one, (0, None, None, None)))


def draws(mix, images=IMAGES, labels=LABELS, probability=1.0, seed=0, **settings):
    """The results for DRAWS keys: images [DRAWS,N,H,W,3] and labels [DRAWS,N,H,W]."""
    many = compiled(mix, tuple(settings.items()))
    return tuple(map(np.asarray, many(keys(seed=seed), images, labels, probability)))


def partner_of(image, number):
    """The image whose pixels were pasted into this one, or None."""
    foreign = set(np.unique(image[..., 0])) - {number}
    assert len(foreign) <= 1
    return int(foreign.pop()) if foreign else None


def in_place(image, label, number):
    """(mask of a paste at the same position, partner); checks that labels were pasted too."""
    partner = partner_of(image, number)
    mask = image[..., 0] != number
    np.testing.assert_array_equal(image[..., 1:], IMAGES[0][..., 1:])
    other = LABELS[number if partner is None else partner]
    np.testing.assert_array_equal(label, np.where(mask, other, LABELS[number]))
    return mask, partner


# --- what holds for all


@each_mixer
def test_a_batch_of_one_and_probability_0_change_nothing(mix):
    images, labels = mix(keys(1)[0], IMAGES[:1], LABELS[:1])
    np.testing.assert_array_equal(images, IMAGES[:1])
    np.testing.assert_array_equal(labels, LABELS[:1])
    images, labels = draws(mix, probability=0.0)
    np.testing.assert_array_equal(images, np.stack([IMAGES] * DRAWS))
    np.testing.assert_array_equal(labels, np.stack([LABELS] * DRAWS))


@each_mixer
def test_types_stay_and_the_key_decides(mix):
    images, labels = draws(mix)
    assert images.dtype == np.uint8 and labels.dtype == np.int32
    assert len({image.tobytes() for image in images}) > DRAWS // 2
    assert set(np.unique(labels)) <= set(np.unique(LABELS))
    # Floats and bytes, another program, the same keys: the same pixels.
    as_float, as_bytes = draws(mix, IMAGES.astype(np.float32) / 3, LABELS.astype(np.uint8))
    assert as_float.dtype == np.float32 and as_bytes.dtype == np.uint8
    np.testing.assert_array_equal(as_float, images.astype(np.float32) / 3)
    np.testing.assert_array_equal(as_bytes, labels)


@each_mixer
def test_each_device_mixes_its_own_batch(mix):
    batch = IMAGES.reshape(2, 2, H, W, 3), LABELS.reshape(2, 2, H, W)
    images, _ = jax.pmap(mix)(keys(2), *batch)
    for device, mixed in enumerate(np.asarray(images)):
        assert set(np.unique(mixed[..., 0])) == {2 * device, 2 * device + 1}
        assert (mixed != batch[0][device]).any()


def test_wrong_arguments():
    for pairs in (((1, 255),), ((1,),), (3, 1), ((1, -1),), (("wall", 1),), ((1.5, 2),)):
        with pytest.raises(UserError, match="^copy_blob pairs=.* two ids from 0 to 254$"):
            mixing.copy_blob(keys(1)[0], IMAGES, LABELS, pairs)
    with pytest.raises(ValueError, match="no batch"):
        mixing.cutmix(keys(1)[0], IMAGES, LABELS[:, :-1])


def test_partners_are_never_oneself_and_all_others_alike():
    assert mixing.partners(keys(1)[0], 1).tolist() == [0]
    found = np.asarray(jax.vmap(lambda key: mixing.partners(key, 4))(keys()))
    assert (np.sort(found, 1) == np.arange(4)).all()
    counts = np.array([np.bincount(column, minlength=4) for column in found.T])
    assert (counts.diagonal() == 0).all()
    assert counts[~np.eye(4, dtype=bool)].min() > 8  # of 20 expected


# --- CutMix


@pytest.mark.parametrize("per_image", [True, False])
def test_cutmix_pastes_rectangles(per_image):
    pasted = []
    for images, labels in zip(*draws(mixing.cutmix, per_image=per_image), strict=True):
        found = [in_place(images[i], labels[i], i) for i in range(N)]
        for mask, _ in found:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if mask.any():  # whole rows of whole columns, without a gap
                assert mask.sum() == len(rows) * len(columns)
                assert np.ptp(rows) + 1 == len(rows) and np.ptp(columns) + 1 == len(columns)
        shifts = {(partner - i) % N for i, (_, partner) in enumerate(found) if partner is not None}
        assert len(shifts) <= 1
        same = all((mask == found[0][0]).all() for mask, _ in found)
        assert same != per_image
        pasted += [mask.mean() for mask, _ in found]
    assert min(pasted) < 0.05 and max(pasted) > 0.6


def test_cutmix_pastes_as_much_as_the_paper():
    def shares(probability):
        images = [draws(mixing.cutmix, probability=probability, seed=i)[0] for i in range(6)]
        return (np.stack(images)[..., 0] != np.arange(N)[:, None, None]).mean((3, 4)).ravel()

    rng, expected = np.random.default_rng(0), []
    for _ in range(50_000):
        side = np.sqrt(1 - rng.beta(1, 1))
        ends = [np.clip((c - side / 2, c + side / 2), 0, 1) for c in rng.random(2)]
        expected.append(np.prod([high - low for low, high in ends]))
    parts = (0.25, 0.5, 0.75)
    difference = np.quantile(shares(1.0), parts) - np.quantile(expected, parts)
    assert np.abs(difference).max() < 0.04
    assert 0.42 < (shares(0.5) > 0).mean() < 0.54  # less what is too small to hold a pixel


# --- ClassMix


def test_classmix_pastes_half_of_the_classes_whole():
    labels = LABELS.copy()
    labels[2] = np.where(labels[2] == 255, 255, 1)  # one class
    labels[3] = 255  # none
    images, mixed = draws(classmix, labels=labels)
    counts = np.zeros((N, K), int)
    for image_batch, label_batch in zip(images, mixed, strict=True):
        for i in range(N):
            partner = partner_of(image_batch[i], i)
            if partner is None:  # only a partner without labels has nothing to give
                assert 3 in {j for j in range(N)} - {i}
                continue
            pasted = image_batch[i][..., 0] != i
            chosen = set(labels[partner][pasted])
            present = set(labels[partner].ravel()) - {255}
            assert len(chosen) == -(-len(present) // 2) and 255 not in chosen
            for y, x in np.ndindex(H, W):
                inside = labels[partner][y, x] in chosen
                source = partner if inside else i
                assert image_batch[i][y, x].tolist() == [source, y, x]
                assert label_batch[i][y, x] == labels[source][y, x]
            for c in chosen:
                counts[partner, c] += 1
    assert counts[3].sum() == 0 and (counts[2] > 0).tolist() == [False, True] + [False] * 4
    for i in (0, 1):  # five classes, three of them pasted each of some 60 times
        assert counts[i][i] == 0 and np.delete(counts[i], i).min() > 20
    assert np.delete(counts[:2], 1, 1).max() < 55


# --- CopyBlob


def blob_by_loops(number, source, destination, connected, image, label, labels):
    """Checks one paste and returns (pixels of the blob, pixel of the destination), or None."""
    mask = image[..., 0] != number
    if not mask.any():
        return None
    partner = partner_of(image, number)
    to = np.argwhere(mask)
    start = image[mask][:, 1:].astype(int)
    offset = to[0] - start[0]
    assert (to - start == offset).all()
    everything = set(map(tuple, np.argwhere(labels[partner] == source)))
    blob = flood(labels[partner], tuple(start[0])) if connected else everything
    assert blob <= everything
    expected_image, expected_label = IMAGES[number].copy(), labels[number].copy()
    for y, x in blob:
        there = (y + offset[0], x + offset[1])
        if 0 <= there[0] < H and 0 <= there[1] < W:
            expected_image[there] = IMAGES[partner][y, x]
            expected_label[there] = source
    np.testing.assert_array_equal(image, expected_image)
    np.testing.assert_array_equal(label, expected_label)
    ends = np.array([np.min(list(blob), 0), np.max(list(blob), 0)])
    centre = tuple(ends.sum(0) // 2 + offset)
    assert labels[number][centre] == destination
    return blob, centre


@pytest.mark.parametrize("connected", [True, False])
def test_copy_blob_as_loops_would(connected):
    labels = patches(5)
    labels[(labels == 3) | (labels == 4)] = 0  # leaves the first pair; image 1 has no 1, 2 no 2
    images, mixed = draws(copy_blob, labels=labels, connected=connected)
    found = []
    for batch, label_batch in zip(images, mixed, strict=True):
        for i in range(N):
            one = blob_by_loops(i, 1, 2, connected, batch[i], label_batch[i], labels)
            found += [(i, one)]
    assert all(one is None for i, one in found if i == 2)  # no room
    done = [one for _, one in found if one is not None]
    assert len(done) > 1.4 * DRAWS  # 3 images, 2 of 3 partners with a blob, a few juts out wholly
    sizes = {len(blob) for blob, _ in done}
    assert (4 in sizes) == connected and max(sizes) > 4


def test_blob_and_place_are_drawn_evenly():
    labels = np.zeros((N, H, W), np.int32)
    labels[0, 2, 2:5], labels[0, 8, 9] = 1, 1  # components of 3 pixels and of 1
    labels[1:, [1, 4, 9, 9], [3, 7, 2, 12]] = 2
    images, mixed = draws(copy_blob, labels=labels)
    np.testing.assert_array_equal(images[:, 0], np.stack([IMAGES[0]] * DRAWS))  # nothing to copy
    sizes = (mixed == 1).sum((2, 3))[:, 1:]
    assert set(sizes.ravel()) == {0, 1, 3} and (sizes > 0).sum() == DRAWS  # one has 0 for partner
    assert 35 < (sizes == 3).sum() < 55
    for row, column in ((1, 3), (4, 7), (9, 2), (9, 12)):
        assert 6 < (mixed[:, 1:, row, column] == 1).sum() < 26


def test_pairs_in_turn_onto_what_the_pair_before_has_left():
    labels = np.zeros((N, H, W), np.int32)
    labels[::2, 2, 2:5] = 1
    labels[::2, 7, 7] = 3
    labels[1::2, 6, 6] = 2
    images, mixed = draws(copy_blob, labels=labels)
    seen = set()
    for image, label in zip(images[:, 1], mixed[:, 1], strict=True):
        if not (label == 1).any():
            assert (label == labels[1]).all()  # 3 is its partner and has nothing
            continue
        row = label[6, 5:8].tolist()
        assert sorted(row) == [1, 1, 3]  # 2 was the middle of three 1s, one of which became 3
        seen.add(row.index(3))
        assert image[6, 5 + row.index(3), 1:].tolist() == [7, 7]
        assert (label != 0).sum() == 3
    assert seen == {0, 1, 2}


def test_each_image_decides_for_itself():
    labels = np.ones((N, H, W), np.int32)
    labels[:, 3:9, 4:12] = 2
    images, _ = draws(copy_blob, labels=labels, probability=0.3)
    changed = (images[..., 0] != np.arange(N)[:, None, None]).any((2, 3))
    assert 0.2 < changed.mean() < 0.4
    assert len(np.unique(changed, axis=0)) > 8

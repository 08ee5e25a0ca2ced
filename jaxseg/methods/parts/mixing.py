"""Mixing the images of a batch into each other, on the device: CutMix, ClassMix, CopyBlob.

CutMix: Yun et al., ICCV 2019 (boxes). ClassMix: Olsson et al., WACV 2021 (half of the classes).
CopyBlob: the MiniCity tutorial by hoya012 (rare things, put onto classes that they may stand on).

Everything is a pure function of a key and works under `jit`, `scan` and `pmap`. Images are
[N,H,W,C] of any type and labels [N,H,W] integers, 255 = ignored; both come back in the same shape
and type. Pixels are copied with their labels and never blended, so no new value or class id
appears.

An image's partner is another of the batch that the call is given. Under `pmap` this is the device's
share of the batch, and with `train.accumulate` the micro-batch; devices and micro-batches have keys
of their own and never exchange pixels. A batch of one comes back as it is, so a batch must hold two
images a device and micro-batch for anything to be mixed.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.errors import UserError
from jaxseg.methods.parts import mixing_masks

# (class copied, class it is put on) in Cityscapes' ids: wall and fence to sidewalk, bus and train
# to road.
PAIRS = ((3, 1), (4, 1), (15, 0), (16, 0))


def partners(key: jax.Array, number: int) -> jax.Array:
    """The partner that each of `number` images is mixed with, int32 [number]: a random rotation.

    All other images are equally likely. A random permutation would on average leave one image of a
    batch unmixed. A batch of one is its own partner.
    """
    shift = jax.random.randint(key, (), 1, number) if number > 1 else 0
    return (jnp.arange(number) + shift) % number


def paste(
    mask: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    other_images: jax.Array,
    other_labels: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The other images and labels where `mask` bool [N,H,W] holds, the first elsewhere.

    With `mixing_masks.some_classes` this mixes across domains as well: labelled source pixels into
    target images.
    """
    return (
        jnp.where(mask[..., None], other_images, images),
        jnp.where(mask, other_labels, labels),
    )


def cutmix(
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    per_image: bool = True,
    probability: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of the partner, in place; ignored pixels are pasted as ignored.

    The box has the image's shape, the share 1 - lam of its area with lam ~ Beta(1, 1), which is the
    uniform distribution, and a uniform centre; what lies outside is lost.

    Args:
      key: uint32 [2].
      images: [N,H,W,C].
      labels: [N,H,W].
      per_image: False draws one box, and whether it is pasted, for the whole batch (the tutorial).
      probability: of pasting.

    Returns:
      images and labels.
    """
    number, *size = _check(images, labels)
    if number == 1:
        return images, labels
    partner, chance = _draw(key, number, 4)
    chance = chance if per_image else chance[:1]
    mask = mixing_masks.boxes(chance[:, 0], chance[:, 1:3], tuple(size))
    mask &= (chance[:, 3] < probability)[:, None, None]
    mask = jnp.broadcast_to(mask, labels.shape)
    return paste(mask, images, labels, images[partner], labels[partner])


def classmix(
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    num_classes: int,
    share: float = 0.5,
    probability: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Pastes all pixels of some of the partner's classes, in place.

    Args:
      key: uint32 [2].
      images: [N,H,W,C].
      labels: [N,H,W].
      num_classes: K; ids from K on, such as 255, are never pasted.
      share: of the classes present in the partner, rounded upwards.
      probability: of pasting, for each image.

    Returns:
      images and labels.
    """
    number, *_ = _check(images, labels)
    if number == 1:
        return images, labels
    partner, chance = _draw(key, number, num_classes + 1)
    images_there, labels_there = images[partner], labels[partner]
    mask = mixing_masks.some_classes(chance[:, 1:], labels_there, share)
    mask &= (chance[:, 0] < probability)[:, None, None]
    return paste(mask, images, labels, images_there, labels_there)


def copy_blob(
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    pairs: Sequence[tuple[int, int]] = PAIRS,
    *,
    probability: float = 1.0,
    connected: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Copies things out of the partner onto a class that they may stand on.

    A random pixel of each source class in the partner selects a blob. For each pair in turn the
    blob is put with the centre of its bounding box on a random pixel of the destination class; what
    lies outside the image is lost. Nothing happens where either class is missing. A later pair
    works on the labels that an earlier one has changed; the partner is never changed.

    The tutorial takes all pixels of the class at once (`connected=False`), puts the pixel nearest
    to the upper left corner on the drawn one instead of the centre, and smears what lies outside
    along the border.

    Args:
      key: uint32 [2].
      images: [N,H,W,C].
      labels: [N,H,W].
      pairs: (source class, destination class), ids in 0..254.
      probability: of copying, for each image and pair.
      connected: True: a blob is one 4-connected component, larger ones being likelier. False: it is
        all pixels of the class.

    Returns:
      images and labels.

    Raises:
      UserError: pairs that are not pairs of class ids.
    """
    number, *_ = _check(images, labels)
    _check_pairs(pairs)
    if number == 1 or not pairs:
        return images, labels
    sources = sorted({source for source, _ in pairs})
    partner, chance = _draw(key, number, len(sources) + 2 * len(pairs))
    images_there, labels_there = images[partner], labels[partner]
    blobs = jnp.ones(labels.shape, bool)
    if connected:
        of_all = jax.vmap(mixing_masks.some_components, (0, 0, None))
        blobs = of_all(chance[:, : len(sources)], labels_there, jnp.asarray(sources))
    where, whether = jnp.split(chance[:, len(sources) :], 2, 1)
    copy = jax.vmap(partial(_copy, jnp.asarray(pairs, jnp.int32)))
    return copy(where, whether < probability, images, labels, images_there, labels_there, blobs)


def _copy(pairs, where, whether, image, label, image_there, label_there, blobs):
    """All pairs for one image: `copy_blob` without the batch."""
    height, width = label.shape
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)

    def one(carry, item):
        (source, destination), where, whether = item
        label, origin = carry
        own, room = blobs & (label_there == source), label == destination
        down, right = mixing_masks.random_pixel(where, room) - mixing_masks.centre(own)
        row, column = rows - down, columns - right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        # Places outside are read at the border and then left out.
        place = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
        mask = whether & room.any() & inside & own.reshape(-1)[place]
        label = jnp.where(mask, source.astype(label.dtype), label)
        return (label, jnp.where(mask, place, origin)), None

    # `origin` says where each pixel comes from in the partner, -1 from nowhere: the image itself is
    # copied once.
    start = (label, jnp.full(label.shape, -1))
    (label, origin), _ = lax.scan(one, start, (pairs, where, whether))
    moved = image_there.reshape(height * width, -1)[jnp.maximum(origin, 0)]
    return jnp.where((origin >= 0)[..., None], moved, image), label


def _draw(key: jax.Array, number: int, each: int) -> tuple[jax.Array, jax.Array]:
    """Partners int32 [number] and numbers from U(0, 1), [number,each]."""
    who, key = jax.random.split(key)
    return partners(who, number), jax.random.uniform(key, (number, each))


def _check(images: jax.Array, labels: jax.Array) -> tuple[int, int, int]:
    if images.ndim != 4 or images.shape[:3] != labels.shape:
        raise ValueError(f"images {images.shape} and labels {labels.shape} are no batch")
    return labels.shape


def _check_pairs(pairs: Sequence) -> None:
    for pair in pairs:
        ids = pair if isinstance(pair, Sequence) else ()
        if len(ids) != 2 or not all(isinstance(i, int) and 0 <= i < 255 for i in ids):
            raise UserError(
                f"copy_blob pairs={pairs!r}: {pair!r} is not (source class, destination class), "
                "two ids from 0 to 254"
            )

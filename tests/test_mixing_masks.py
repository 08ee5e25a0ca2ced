"""Boxes, choices of classes and connected components against hand values and loops."""

import jax
import jax.numpy as jnp
import numpy as np
from kit.masks import flood

from jaxseg.methods.parts import mixing_masks


def test_boxes_by_hand():
    boxes = jax.jit(lambda area, centre: mixing_masks.boxes(area, centre, (4, 8)))

    def rows_and_columns(area, centre):
        (mask,) = np.asarray(boxes(jnp.array([area]), jnp.array([centre])))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)
        return rows.tolist(), columns.tolist()

    assert rows_and_columns(0.25, (0.5, 0.5)) == ([1, 2], [2, 3, 4, 5])
    assert rows_and_columns(1.0, (0.5, 0.5)) == ([0, 1, 2, 3], list(range(8)))
    assert rows_and_columns(1.0, (0.0, 0.75)) == ([0, 1], [2, 3, 4, 5, 6, 7])
    assert rows_and_columns(0.25, (1.0, 0.0)) == ([3], [0, 1])
    assert rows_and_columns(0.0, (0.5, 0.5)) == ([], [])


def test_boxes_as_a_float64_loop_would():
    rng = np.random.default_rng(0)
    area, centre = rng.random(20), rng.random((20, 2))
    masks = jax.jit(lambda *args: mixing_masks.boxes(*args, (5, 9)))(area, centre)
    for mask, share, (down, right) in zip(np.asarray(masks), area, centre, strict=True):
        for y, x in np.ndindex(5, 9):
            high = abs((y + 0.5) - 5 * down) <= 5 * share**0.5 / 2
            wide = abs((x + 0.5) - 9 * right) <= 9 * share**0.5 / 2
            assert mask[y, x] == (high and wide)


def test_ids_that_are_no_class_are_never_pasted():
    label = jnp.array([[[0, 1, 2, 7, 200, 255]]])
    for chance, chosen in (((0.2, 0.3), 0), ((0.9, 0.3), 1), ((0.3, 0.3), 0)):
        (mask,) = np.asarray(jax.jit(mixing_masks.some_classes)(jnp.array([chance]), label))
        assert mask[0].tolist() == [i == chosen for i in range(6)]
    (mask,) = np.asarray(jax.jit(mixing_masks.some_classes)(jnp.full((1, 8), 0.5), label, 1.0))
    assert mask[0].tolist() == [True] * 4 + [False] * 2


def test_components_as_a_stack_would():
    spiral = np.array(
        [
            [0, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1, 1, 0],
            [0, 0, 0, 0, 0, 1, 0],
            [0, 1, 1, 1, 0, 1, 0],
            [0, 1, 0, 0, 0, 1, 0],
            [0, 1, 1, 1, 1, 1, 0],
            [0, 0, 0, 0, 0, 0, 0],
        ]
    )
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 2, (7, 7)) for _ in range(12)] + [spiral] * 4
    noise += [rng.choice([0, 3, 255], (7, 7)).astype(np.uint8) for _ in range(4)]
    spread = jax.jit(mixing_masks.components)
    for label in noise:
        label = label.astype(np.uint8)
        seeds = rng.random((7, 7)) < 0.05
        expected = set().union(*(flood(label, tuple(s)) for s in np.argwhere(seeds)))
        assert set(map(tuple, np.argwhere(np.asarray(spread(label, seeds))))) == expected
    assert spread(spiral.astype(np.uint8), np.arange(49).reshape(7, 7) == 22).sum() == 18

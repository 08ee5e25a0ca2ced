"""Tiny networks and batches of GIO-Ada, and numeric derivatives."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.models.network import Network

K, SIZE = 3, (4, 6)


def unit(images):
    return images.astype(jnp.float32) / 127.5 - 1


def segmenter():
    """Logits and depth are linear in the image; the statistics move half way to its mean."""

    def init(key, images):
        keys = jax.random.split(key, 2)
        params = {"main": 2 * jax.random.normal(keys[0], (3, K)),
                  "depth": jax.random.normal(keys[1], (3, 1))}  # fmt: skip
        return params, {"mean": jnp.ones(())}

    def apply(params, stats, images, train, key=None):
        x = unit(images)
        outputs = {level: x @ kernel for level, kernel in params.items()}
        return outputs, {"mean": 0.5 * stats["mean"] + 0.5 * jnp.mean(x)} if train else stats

    return Network(init, apply)


def discriminator():
    """Linear in the maps and in their squares, so that its slope is not the same everywhere."""

    def init(key, maps):
        keys, shape = jax.random.split(key, 2), (maps.shape[-1], 1)
        return {"kernel": jax.random.normal(keys[0], shape),
                "square": jax.random.normal(keys[1], shape)}, {}  # fmt: skip

    def apply(params, stats, maps, train, key=None):
        return {"score": maps @ params["kernel"] + maps**2 @ params["square"]}, stats

    return Network(init, apply)


def batches(steps, n=2):
    rng = np.random.default_rng(5)
    for _ in range(steps):
        depth = rng.uniform(1, 60, (n, *SIZE)).astype(np.float32)
        yield {
            "source_image": rng.integers(0, 256, (n, *SIZE, 3)).astype(np.uint8),
            "source_label": rng.choice([0, 1, 2, 255], (n, *SIZE)).astype(np.uint8),
            "source_depth": np.where(rng.random((n, *SIZE)) < 0.3, 0, depth).astype(np.float32),
            "target_image": rng.integers(0, 256, (n, *SIZE, 3)).astype(np.uint8),
        }


def outputs(params, image):
    logits, depth = image @ params["gen/main"], image @ params["gen/depth"]
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True), depth


def differentiate(function, params, names):
    """Central differences in float64."""
    gradients = {name: np.zeros_like(params[name]) for name in names}
    for name in names:
        for i in np.ndindex(params[name].shape):
            values = []
            for sign in (1, -1):
                moved = {**params, name: params[name].copy()}
                moved[name][i] += sign * 1e-6
                values.append(function(moved))
            gradients[name][i] = (values[0] - values[1]) / 2e-6
    return gradients


TOLERANCE = dict(rtol=2e-4, atol=2e-5)

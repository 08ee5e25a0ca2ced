"""Experiments shrunk until a test can run them, and networks small enough to follow by hand."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.engine import feed, guard
from jaxseg.engine.method import AXIS
from jaxseg.engine.update import init_state, make_update
from jaxseg.models.network import Network

SIZE = (32, 64)
# The backbone with which a test tries what a preset has, of the same family.
TINY = {
    **dict.fromkeys(("small", "resnet50", "resnet101"), "tiny"),
    **dict.fromkeys(("vgg_small", "vgg16", "vgg16_frontend"), "vgg_tiny"),
    **dict.fromkeys(("vgg16_small", "vgg16_narrow"), "vgg16_tiny"),
    **dict.fromkeys([f"efficientnet_lite{number}" for number in range(3)], "efficientnet_tiny"),
}
K, C = 3, 4  # classes and image channels of the linear networks


def small_config(name, records, preset="streets"):
    """`configs/<name>.py` with few tiny images, tiny networks without pretrained weights, and four
    steps.
    """
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config(preset)
    if config.init.backbone:
        config = module.get_config(f"{preset}+scratch")
    config.name = "_".join((name, *preset.split("+")))
    config.data.records = str(records)
    config.data.threads = 1
    config.net.backbone = TINY[config.net.backbone]
    if config.net.rates:
        config.net.rates = (1, 2)
    config.disc.width = 4
    if "translator" in config:
        config.translator.update(dict(width=4, blocks=1))
    for side in (config.data.source, config.data.target):
        side.size = SIZE
    if config.augment.source.fda:
        config.augment.source.fda = 0.05  # of 32 rows: one frequency
    if preset == "streets":
        config.data.source.options.counts.update(dict(train=6, val=3))
        config.data.target.options.counts.train = 6
        config.data.target.options.counts.val = 3
    config.train.update(
        dict(batch=2, steps=4, warmup_steps=2, log_every=1, eval_every=2, pictures=2)
    )
    config.optim.gen.schedule_steps = 8
    config.optim.disc.schedule_steps = 8
    config.eval.batch = 2
    return config


def linear_segmenter():
    """Logits at half resolution: 2x2 mean, then a linear map for each level."""

    def init(key, images):
        del images
        keys = jax.random.split(key, 2)
        return {
            "main_head": {"kernel": jax.random.normal(keys[0], (C, K))},
            "backbone": {"kernel": jax.random.normal(keys[1], (C, K))},
        }, {}

    def apply(params, stats, images, train, key=None):
        n, h, w, c = images.shape
        pooled = images.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        names = {"main": "main_head", "aux": "backbone"}
        return {level: pooled @ params[name]["kernel"] for level, name in names.items()}, stats

    return Network(init, apply)


def three_channels():
    """`linear_segmenter` for three channels."""
    segmenter = linear_segmenter()

    def init(key, images):
        del images
        kernel = 0.02 * jax.random.normal(key, (3, K))
        return {"main_head": {"kernel": kernel}, "backbone": {"kernel": 0 * kernel}}, {}

    return segmenter._replace(init=init)


def linear_discriminator():
    def init(key, maps):
        del maps
        return {"kernel": 0.3 * jax.random.normal(key, (K, 1)), "bias": jnp.full((1,), 0.1)}, {}

    def apply(params, stats, maps, train, key=None):
        return {"score": maps @ params["kernel"] + params["bias"]}, stats

    return Network(init, apply)


def linear_batches(steps, n=1, seed=0, size=(6, 8)):
    """`steps` batches for the linear networks; the first two rows are not labelled."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        label = rng.integers(0, K, (n, *size)).astype(np.int32)
        label[:, :2] = 255
        yield {
            "source_image": rng.normal(size=(n, *size, C)).astype(np.float32),
            "source_label": label,
            "target_image": rng.normal(0.5, 1.5, size=(n, *size, C)).astype(np.float32),
        }


def on_one_device(function):
    """The function under pmap's device axis, with one device."""

    def call(*args):
        args = jax.tree.map(lambda x: jnp.asarray(x)[None], args)
        out = jax.vmap(function, axis_name=AXIS)(*args)
        return jax.tree.map(lambda x: x[0], out)

    return call


def run(method, txs, data, devices=1, accumulate=1, state=None):
    """One step for each batch of the list `data`; returns (first state, last state, metrics of the
    method). It goes on from `state`, if one is given.
    """
    if state is None:
        state = jax.jit(lambda k: init_state(method, txs, k, data[0]))(jax.random.PRNGKey(1))
    start = jax.device_get(state)
    update = jax.pmap(
        make_update(method, txs, accumulate),
        AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=jax.devices()[:devices],
    )
    for batch in data:
        cut = feed.shard(batch, jax.devices()[:devices])
        state, metrics = update(state, cut)
        jax.block_until_ready(state)
    told = guard.plain(jax.device_get(metrics))
    told = {name: value for name, value in told.items() if not name.startswith(guard.NORM)}
    return start, jax.device_get(state), told


QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time


def quick_run(method, txs, data, state=None):
    """The same as `run` on one device, compiled without optimisation; all metrics."""
    if state is None:
        init = jax.jit(lambda k: init_state(method, txs, k, data[0]), compiler_options=QUICK)
        state = init(jax.random.PRNGKey(1))
    start = state
    update = jax.vmap(make_update(method, txs), (None, 0), axis_name=AXIS)
    update = jax.jit(update, compiler_options=QUICK)
    for batch in data:
        out = update(state, jax.tree.map(lambda x: x[None], batch))
        state, metrics = jax.tree.map(lambda x: x[0], out)
    return jax.device_get((start, state, metrics))

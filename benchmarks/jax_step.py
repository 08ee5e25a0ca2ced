"""Our side of `step.py`, which starts it: the AdvEnt training step of jaxseg.

The step is the one used by `launch.py`: `programs.pmapped_update` of the preset's method, on one
device.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

BEGAN = time.perf_counter()
JOB = json.loads(sys.argv[1])
if hasattr(os, "sched_setaffinity") and JOB["cores"]:
    os.sched_setaffinity(0, JOB["cores"])  # before JAX counts the cores
if JOB["gpu"]:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the device
else:
    os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import turns
from configs import advent, settings
from jaxseg.engine import optim, programs
from jaxseg.experiment import settings as experiment_settings
from jaxseg.experiment.method import make_method
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import first_state
from jaxseg.models.backbones import build as backbones
from jaxseg.models.layers import layers

CHANNELS = 96  # of the feature pyramid


def configured(job: dict):
    """Returns the preset with the size, batch and dtype of the job."""
    config = advent.get_config(job["preset"])
    if job["backbone"]:
        # Dropout would draw other values on either side.
        config.net = settings.network(
            "fpn", job["backbone"], aux=True, aux_dropout=0.0, channels=CHANNELS
        )
        config.optim.gen.optimiser = "sgd"  # as on the other side
    config.data.source.size, config.data.target.size = map(tuple, job["size"])
    config.train.batch = job["batch"]
    config.net.dtype = config.disc.dtype = job["dtype"]
    if job["remat"]:
        config.net.remat = True
    return config


def batch_of(job: dict) -> dict[str, np.ndarray]:
    """Returns one batch of noise, with a part of the labels ignored."""
    rng = np.random.default_rng(0)
    source, target = job["size"]
    image = lambda size: rng.integers(0, 256, (job["batch"], *size, 3), np.uint8)  # noqa: E731
    label = rng.integers(0, 19, (job["batch"], *source), np.uint8)
    label[:, : source[0] // 8] = 255
    return dict(source_image=image(source), source_label=label, target_image=image(target))


def facts(config) -> dict:
    """Returns the settings of the config that PyTorch needs."""
    paper = config.net.preprocess == "caffe"
    weights = config.method.settings
    return dict(
        classes=len(experiment_settings.label_set(config).classes),
        rates=list(config.net.rates or ()),
        channels=CHANNELS if config.net.architecture == "fpn" else 0,
        sizes=backbones.sizes_of(config.net.backbone)._asdict(),
        disc_width=config.disc.width,
        fixed_affine=config.net.norm in layers.FIXED_AFFINE,
        mean=layers.CAFFE_MEAN_BGR if paper else layers.IMAGENET_MEAN,
        std=(1.0, 1.0, 1.0) if paper else layers.IMAGENET_STD,
        order="BGR" if paper else "RGB",
        segmentation=weights.segmentation_weights.to_dict(),
        adversarial=weights.adversarial_weights.to_dict(),
        gen=config.optim.gen.to_dict(),
        disc=config.optim.disc.to_dict(),
    )


def product_rate(dtype: str, side: int = 2048) -> float:
    """Measures operations per second of a square matrix product, the best of several."""
    a = jnp.ones((side, side), dtype)
    product = jax.jit(jnp.dot)
    product(a, a).block_until_ready()
    best = math.inf
    for _ in range(6):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def main() -> None:
    if JOB["gpu"]:
        jax.config.update("jax_default_matmul_precision", "tensorfloat32")
    if JOB["cache"]:
        jax.config.update("jax_compilation_cache_dir", JOB["cache"])
    config, device = configured(JOB), jax.local_devices()[0]
    method, players = make_method(config), make_optimisers(config)
    state, batch = first_state(config, method, players), batch_of(JOB)
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(state.params))
    arrays = {optim.path_name(path): leaf for path, leaf in leaves}
    on_device = {k: jax.device_put(v[None], device) for k, v in batch.items()}
    update = programs.pmapped_update(method, players.txs, devices=[device])
    held, history = [programs.place(state, [device])], []
    count, saving = sum(a.size for a in arrays.values()), time.perf_counter()
    if JOB["arrays"]:
        np.savez(JOB["arrays"], **arrays, **batch)
    del state, leaves, arrays  # training does not keep them either
    saving = time.perf_counter() - saving

    def step():
        held[0], metrics = update(held[0], on_device)
        return metrics

    for number in range(JOB["warmup"]):
        metrics = jax.device_get(step())
        history.append({name: float(value) for name, value in metrics.items()})
        if number == 0:
            first = time.perf_counter() - BEGAN - saving

    def peak():
        if JOB["gpu"]:
            return device.memory_stats()["peak_bytes_in_use"]
        return turns.peak_resident()

    turns.say(
        name=f"jaxseg on JAX {jax.__version__}", first_step=first, losses=history,
        parameters=count, rate=product_rate(JOB["dtype"]),
        facts=facts(config),
    )  # fmt: skip
    turns.answer(step, lambda metrics: jax.block_until_ready((held[0], metrics)), peak)


if __name__ == "__main__":
    main()

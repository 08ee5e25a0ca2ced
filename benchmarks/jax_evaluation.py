"""Our side of `evaluation.py`, which starts it: evaluation and prediction with jaxseg.

The timed code is the code that users run: `evaluator.make_evaluator` or
`maps.make_image_predictor` for the preset's method under the protocol of `config.eval`, on one
device.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

BEGAN = time.perf_counter()
if __name__ == "__main__":
    JOB = json.loads(sys.argv[1])
    if JOB["gpu"]:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the device
    else:
        os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity") and (cores := JOB["cores"]):
        os.sched_setaffinity(0, cores)  # before JAX counts the cores
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np

from benchmarks import turns
from configs import advent
from jaxseg.engine import optim
from jaxseg.evaluation.evaluator import make_evaluator
from jaxseg.experiment import settings
from jaxseg.experiment.method import make_method, make_predictor
from jaxseg.experiment.optimisers import make_optimisers
from jaxseg.experiment.state import abstract_state
from jaxseg.models.backbones import build as backbones
from jaxseg.models.layers import layers
from jaxseg.run import maps

SHOWN = "shown"  # id of the image whose maps are returned


def configured(job: dict):
    """Returns the paper's preset, or the default one for EfficientNet, with the backbone, size and
    protocol of the job.
    """
    light = job["backbone"].startswith("efficientnet")
    config = advent.get_config("streets" if light else "gta5_cityscapes")
    config.net.backbone, config.init.backbone = job["backbone"], ""
    if light:
        config.net.channels = 96  # of the pyramid, as by default
    config.data.target.size = config.data.source.size = tuple(job["size"])
    config.eval.scales, config.eval.flip = tuple(job["scales"]), job["flip"]
    return config


def drawn(params, stats):
    """Returns the trees with random values that keep activations and logits of order one.

    As initialised, all running statistics are mean 0 and variance 1, and the class maps hold a
    single class, which is useless to compare two programs.
    """
    random = np.random.default_rng(0)

    def draw(path, leaf):
        name = optim.path_name(path)
        kind = name.rsplit("/", 1)[1]
        if kind == "kernel":
            rows, columns, channels, _ = leaf.shape
            spread = np.sqrt(2 / (rows * columns * channels))
            spread *= 1 / 60 if name.endswith("backbone/conv1/kernel") else 1
            return (spread * random.standard_normal(leaf.shape)).astype(np.float32)
        low, high = {"scale": (0.7, 1.3), "var": (0.6, 1.6)}.get(kind, (-0.3, 0.3))
        share = (0.2 if "/bn3/" in name else 0.8 if "downsample" in name else 1.0)  # fmt: skip
        factor = share if kind == "scale" else 1.0
        return (factor * random.uniform(low, high, leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, (params, stats))


def example(size: tuple[int, int], label_size: tuple[int, int], classes: int):
    """Makes an image uint8 [*size, 3] of noisy patches, and a label of patches with an eighth
    ignored."""
    random = np.random.default_rng(1)
    patches = lambda size, *rest: [-(-n // 16) for n in size] + list(rest)  # noqa: E731
    grow = lambda x, size: x.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]  # noqa: E731
    image = grow(random.integers(0, 224, patches(size, 3)), size)
    image = image + random.integers(0, 32, image.shape)
    label = grow(random.integers(0, classes, patches(label_size)), label_size)
    label[: label_size[0] // 8] = 255
    return image.astype(np.uint8), label.astype(np.uint8)


def prepared(job: dict) -> tuple[Callable, dict, dict]:
    """Prepares the work on one image.

    Args:
      job: 'mode' ('evaluate' or 'predict'), 'backbone', 'size' and 'label_size' (height, width),
        'scales' and 'flip'.

    Returns:
      step(show=False), which does the work once and waits for the result; with `show` it returns
      'prediction' uint8 and 'entropy' float32 [h, w] and, in evaluation, 'counts' int [K, K];
      the initial arrays for PyTorch; the settings for PyTorch.

    Raises:
      ValueError: the evaluator's scores do not follow from its class map.
    """
    config = configured(job)
    method, classes = make_method(config), settings.label_set(config).classes
    state = abstract_state(config, method, make_optimisers(config))
    model = drawn(state.params, state.stats)
    image, label = example(job["size"], job["label_size"], len(classes))
    paths = jax.tree_util.tree_leaves_with_path(model)
    arrays = {optim.path_name(path[1:]): leaf for path, leaf in paths}
    arrays |= dict(image=image, label=label)
    gen = {"gen": model[0]["gen"]}
    on_device = jax.device_put((gen, model[1], {}))
    predictor = make_predictor(config, method)
    if job["mode"] == "predict":
        look, size = maps.make_image_predictor(predictor), tuple(job["label_size"])

        def step(show=False):
            ids, entropy = (np.asarray(x) for x in look(on_device, image, size))
            return dict(prediction=ids, entropy=entropy) if show else None
    else:
        evaluator = make_evaluator(
            predictor, len(classes), jax.local_devices()[:1], pictures={SHOWN}
        )
        batch = dict(image=image[None], label=label[None], valid=np.ones(1, bool))

        def step(show=False):
            batches = [{**batch, "id": [SHOWN if show else "other"]}]
            result, examples = evaluator(*on_device, batches, classes)
            if not show:
                return None
            counts = confusion(examples[0].prediction, label, len(classes))
            checked(result, counts, classes)
            return dict(
                prediction=examples[0].prediction, entropy=examples[0].entropy, counts=counts
            )

    return step, arrays, facts(config, len(classes))


def confusion(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix (label, prediction) int64 [K, K], independently in NumPy."""
    known = label < classes
    cells = label[known].astype(np.int64) * classes + prediction[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def checked(result: dict, counts: np.ndarray, classes: tuple[str, ...]) -> None:
    """Raises ValueError unless the result's IoUs agree with the counts."""
    hits = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - hits
    for name, hit, area in zip(classes, hits, union, strict=True):
        if area and abs(result["iou"][name] - hit / area) > 1e-12:
            raise ValueError(f"IoU of {name}: {result['iou'][name]} is not {hit} / {area}")


def facts(config, classes: int) -> dict:
    """Returns the settings of the config that PyTorch needs."""
    net, caffe = config.net, config.net.preprocess == "caffe"
    if not caffe and net.preprocess != "imagenet":
        raise ValueError(f"PyTorch's side normalises as Caffe or torchvision, not {net.preprocess}")
    return dict(
        classes=classes,
        rates=list(net.rates or ()),
        channels=net.channels if net.architecture == "fpn" else 0,
        sizes=backbones.sizes_of(net.backbone)._asdict(),
        mean=layers.CAFFE_MEAN_BGR if caffe else layers.IMAGENET_MEAN,
        std=(1.0, 1.0, 1.0) if caffe else layers.IMAGENET_STD,
        order="BGR" if caffe else "RGB",
    )


def main() -> None:
    job = JOB
    if job["gpu"]:
        jax.config.update("jax_default_matmul_precision", "tensorfloat32")
    step, arrays, known = prepared(job)
    shown = step(show=True)
    first = time.perf_counter() - BEGAN
    np.savez(job["arrays"], **arrays, **{f"shown/{name}": x for name, x in shown.items()})
    for _ in range(job["warmup"]):
        step()
    turns.say(
        name=f"jaxseg on JAX {jax.__version__}", first_step=first, facts=known,
        classes_seen=len(np.unique(shown["prediction"])),
    )  # fmt: skip
    device = jax.local_devices()[0]
    on_device = lambda: device.memory_stats()["peak_bytes_in_use"]  # noqa: E731
    turns.answer(step, lambda _: None, on_device if job["gpu"] else turns.peak_resident)


if __name__ == "__main__":
    main()

"""Exported networks against jaxseg: size, difference and time, for each network.

    python benchmarks/export.py                                   # every network at 128x256
    python benchmarks/export.py --networks=deeplabv2:resnet101,fpn:efficientnet_lite0 --size=256,512
    python benchmarks/export.py --formats=onnx --threads=2

Each network has random weights and 19 classes. The time is that of one image on the CPU with all
cores that the process may use, the fastest of several, after the first: by jaxseg (`predict` and
the resizing of logits, jitted), by JAX from the exported file, and by ONNX Runtime. The difference
is that of logits, as a share of the largest, over batches of one and two images.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.data.labels import CITYSCAPES
from jaxseg.experiment.networks import PREPROCESS
from jaxseg.models.network import network
from jaxseg.models.segmenters import build
from jaxseg.run import export

NETWORKS = (
    *("deeplabv2:small", "deeplabv2:resnet101", "deeplabv2:vgg16", "deeplabv3:resnet50"),
    *("deeplabv3plus:resnet50", "fcn:vgg16", "fcn:alexnet", "unet:small"),
    *("fpn:efficientnet_lite0", "segformer:mit_b0", "daformer:mit_b0", "daformer:mit_b0:hrda"),
    *("vfm:dinov2_vits14", "vfm:dinov3_vits16"),
)


def drawn(net, size):
    """Random parameters and statistics that keep activations of order one."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        values = random.standard_normal(leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            return values * np.float32((2 / np.prod(leaf.shape[:-1])) ** 0.5)
        return 0.8 + 0.2 * np.abs(values) if name in ("scale", "var") else 0.1 * values

    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    shapes = jax.eval_shape(net.init, jax.ShapeDtypeStruct((2,), jnp.uint32), image)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def built(name: str, size: tuple[int, int]):
    """(predict, model) of 'architecture:backbone' or 'architecture:backbone:hrda'."""
    architecture, backbone, *rest = name.split(":")
    window = tuple(side // 2 for side in size) if rest else None
    module = build.build(
        architecture, len(CITYSCAPES.classes), backbone, norm="train", axis_name=None,
        dtype=jnp.float32, hrda=window,
    )  # fmt: skip
    net = network(module, PREPROCESS["imagenet"])

    def predict(params, stats, memory, images):
        return net.apply(params, stats, images, False)[0]["main"]

    return predict, (*drawn(net, size), {})


def fastest(call: Callable, image: np.ndarray, most: int) -> float:
    """Milliseconds of one call, the least of at most `most`, after the first."""
    jax.block_until_ready(call(image))
    times, began = [], time.perf_counter()
    while len(times) < most and time.perf_counter() - began < 10:
        start = time.perf_counter()
        jax.block_until_ready(call(image))
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def row(name: str, size: tuple[int, int], formats: list[str], most: int) -> str:
    """A line of the table."""
    predict, model = built(name, size)
    image = np.random.default_rng(1).integers(0, 256, (1, *size, 3), np.uint8)
    on_device = jax.device_put(model)
    ours = jax.jit(lambda model, image: export.plain(predict, model, image, size))
    cells = [f"{fastest(lambda image: ours(on_device, image), image, most):,.0f}"]
    for kind in formats:
        began = time.process_time()
        try:
            file = getattr(export, f"{kind}_file")(predict, model, size, CITYSCAPES)
        except export.UserError as error:
            cells += [str(error).split(",")[0], "", "", ""]
            continue
        took = time.process_time() - began
        call = getattr(export, f"{kind}_caller")(file)
        found = export.difference(call, predict, model, size)
        told = f"{found['difference']:.1e}" + (f", {found['ids']} ids" if found["ids"] else "")
        cells += [told, f"{len(file) / 1e6:.1f}", f"{fastest(call, image, most):,.0f}"]
        cells += [f"{took:.0f}"]
    return f"| {name} | {' | '.join(cells)} |"


def main(argv: list[str] | None = None) -> int:
    """Prints a table, each row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--size", default="128,256", help="height,width")
    parser.add_argument("--formats", default="jax,onnx")
    parser.add_argument("--images", type=int, default=7, help="timed, at most")
    args = parser.parse_args(argv)
    height, width = map(int, args.size.split(","))
    formats = args.formats.split(",")
    heads = [f"{kind}: {what}" for kind in formats
             for what in ("difference", "MB", "ms", "export core s")]  # fmt: skip
    print(f"Images of {height}x{width}, CPU")
    print(f"| network | jaxseg ms | {' | '.join(heads)} |")
    print("|---" * (len(heads) + 2) + "|", flush=True)
    for name in args.networks.split(","):
        print(row(name, (height, width), formats, args.images), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

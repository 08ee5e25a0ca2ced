"""Depthwise convolutions on a CPU: sums of shifted products against XLA's grouped convolution.

    python benchmarks/depthwise.py                         # EfficientNet-Lite0, 4 images of 128x256
    python benchmarks/depthwise.py --images=8 --size=192x256 --turns=7

Times each depthwise layer of the network at the sizes that it sees, forward and with both
gradients, the two ways taking turns, by the core time of this process. Prints medians in
milliseconds, the ratio for each layer and for all, and the largest difference of the results
relative to their spread. Exit code 1 when the results differ.
"""

import argparse
import collections
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jaxseg.models.backbones import build as backbones
from jaxseg.models.layers import depthwise as layers

CLOSE = 1e-4  # of a result's standard deviation
WAYS = {"shifted": True, "grouped": False}


def layers_of(backbone: str, images: int, size: tuple[int, int]) -> dict[tuple, int]:
    """How often the network has each layer: {(shape of its input, kernel, stride): count}."""
    found = collections.Counter()

    def note(call, args, kwargs, context):
        if isinstance(context.module, layers.DepthwiseConv):
            found[args[0].shape, context.module.kernel, context.module.stride] += 1
        return call(*args, **kwargs)

    def traced(key):
        module = backbones.build(
            backbone, output_stride=32, norm="train", axis_name=None, dtype=jnp.float32,
            initial="he", conventions="torchvision", remat=False, own=(),
        )  # fmt: skip
        return Alone(module).init(key, jnp.zeros((images, *size, 3)))

    with nn.intercept_methods(note):
        jax.eval_shape(traced, jax.random.PRNGKey(0))
    return dict(found)


class Alone(nn.Module):
    """A backbone by itself."""

    backbone: nn.Module

    def __call__(self, images):
        return self.backbone(images, True)


def programs(shape: tuple, kernel: int, stride: int, shifted: bool) -> dict:
    """Compiled {'forward': (x, k) -> y, 'gradients': (x, k) -> (y's sum of squares' gradients)}."""
    padding = tuple(layers.same_padding(n, kernel, stride) for n in shape[1:3])

    def forward(x, k):
        return layers.depthwise(x, k, stride, padding, shifted=shifted)

    gradients = jax.grad(lambda x, k: jnp.sum(forward(x, k) ** 2), argnums=(0, 1))
    return {"forward": jax.jit(forward), "gradients": jax.jit(gradients)}


def measured(shape: tuple, kernel: int, stride: int, turns: int) -> tuple[dict, float]:
    """({(work, way): core milliseconds, the median}, largest difference of the two ways)."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    k = jnp.asarray(rng.standard_normal((kernel, kernel, 1, shape[-1])), jnp.float32)
    ways = {way: programs(shape, kernel, stride, shifted) for way, shifted in WAYS.items()}
    times, apart = collections.defaultdict(list), 0.0
    for work in ("forward", "gradients"):
        ours, plain = (jax.tree.leaves(ways[way][work](x, k)) for way in WAYS)
        for a, b in zip(ours, plain, strict=True):
            apart = max(apart, float(jnp.max(jnp.abs(a - b)) / jnp.std(b)))
        for _ in range(turns):
            for way in WAYS:
                began = time.process_time()
                jax.block_until_ready(ways[way][work](x, k))
                times[work, way].append(1000 * (time.process_time() - began))
    return {key: statistics.median(values) for key, values in times.items()}, apart


def main(argv: list[str] | None = None) -> int:
    """Prints the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--size", default="128x256", metavar="HEIGHTxWIDTH")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args(argv)
    size = tuple(int(side) for side in args.size.split("x"))
    total, worst = collections.Counter(), 0.0
    print("input of the layer        times  forward: shifted, grouped, ratio   gradients: likewise")
    for (shape, kernel, stride), count in layers_of(args.backbone, args.images, size).items():
        found, apart = measured(shape, kernel, stride, args.turns)
        worst = max(worst, apart)
        total.update({key: count * value for key, value in found.items()})
        name = f"{'x'.join(map(str, shape))}, {kernel}x{kernel}/{stride}"
        print(f"{name:27} {count}   {_row(found)}", flush=True)
    print(f"{'all of them':31}{_row(total)}")
    print(f"largest difference: {worst:.1e} of a result's deviation")
    return int(worst > CLOSE)


def _row(found: dict) -> str:
    cells = []
    for work in ("forward", "gradients"):
        ours, plain = (found[work, way] for way in WAYS)
        cells.append(f"{ours:8.1f} {plain:8.1f} {plain / ours:6.1f}x")
    return "   ".join(cells)


if __name__ == "__main__":
    sys.exit(main())

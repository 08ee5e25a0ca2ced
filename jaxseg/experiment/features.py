"""Features of images by a fixed network, to compare sets of images with."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.models.backbones.efficientnet import SIZES, EfficientNet
from jaxseg.models.layers import layers
from jaxseg.storage.weights import files, merge, packaged, rename_efficientnet

NAME = "efficientnet_lite0"


def lite0() -> Callable[[np.ndarray], np.ndarray]:
    """EfficientNet-Lite0 with ImageNet weights: the last stage, averaged over the image.

    Returns:
      images uint8 [N, H, W, 3] -> float32 [N, 320]; compiled for each size.

    Raises:
      UserError: the package with the weights is not installed.
    """
    found = rename_efficientnet.to_ours(files.load(packaged.find(NAME)))
    trunk = {
        path.replace("/backbone/", "/", 1): array
        for path, array in found.items()
        if "/backbone/" in path
    }
    module = EfficientNet(SIZES[NAME])
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    wanted = jax.eval_shape(lambda x: module.init(jax.random.PRNGKey(0), x, False), image)
    params, stats, _ = merge.merge(wanted["params"], wanted["batch_stats"], trunk)
    variables = jax.device_put({"params": params, "batch_stats": stats})

    @jax.jit
    def look(variables, images):
        seen = layers.preprocess(images, layers.IMAGENET_MEAN, layers.IMAGENET_STD)
        return module.apply(variables, seen, False)["stage4"].features.mean((1, 2))

    return lambda images: np.asarray(look(variables, images))

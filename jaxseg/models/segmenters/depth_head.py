"""Depth beside segmentation on DeepLabV2, and DADA's fusion of the two (Vu et al., 2019: DADA,
Depth-aware Domain Adaptation in Semantic Segmentation).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.models.layers.layers import Conv, Initializer, torch_bias


class DepthHead(nn.Module):
    """Encodes the backbone's features; depth is the mean of the code's channels. With `fusion` the
    code is decoded to a gate for the features that the classifier reads.

    The encoder has 1x1, 3x3 and 1x1 convolutions to a quarter, a quarter and a sixteenth of the
    features' channels (512, 512 and 128 of ResNet's 2048), with ReLUs between them but none after
    the last, so that depth can have either sign. The decoder is a 1x1 convolution back to the
    features' width with a ReLU; its output is multiplied by the features. There are no norms.

    Attributes:
      fusion: see above.
      kernel_init: of the first two convolutions; the others draw N(0, 0.01).
      open_gate: the decoder's initial bias is 1, so that the fused features initially are about the
        features themselves; otherwise PyTorch's default, as for all biases of the reference.
      dtype: computation dtype.
    """

    fusion: bool
    kernel_init: Initializer
    open_gate: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Maps features [N, h, w, C] to (depth float32 [N, h, w, 1], features [N, h, w, C])."""

        def conv(x, features, kernel, name, init=None, bias_init=None):
            fan_in = kernel**2 * x.shape[-1]
            return Conv(
                features, kernel, padding=kernel // 2, dtype=self.dtype,
                kernel_init=init or nn.initializers.normal(0.01),
                bias_init=bias_init or torch_bias(fan_in), name=name,
            )(x)  # fmt: skip

        width = x.shape[-1]
        code = nn.relu(conv(x, max(width // 4, 1), 1, "encode1", self.kernel_init))
        code = nn.relu(conv(code, max(width // 4, 1), 3, "encode2", self.kernel_init))
        code = conv(code, max(width // 16, 1), 1, "encode3")
        depth = jnp.mean(code.astype(jnp.float32), -1, keepdims=True)
        if self.fusion:
            bias = nn.initializers.ones if self.open_gate else None
            x = x * nn.relu(conv(code, width, 1, "decode", bias_init=bias))
        return depth, x

"""HRDA (Hoyer et al., "HRDA: Context-Aware High-Resolution Domain-Adaptive Semantic Segmentation",
2022): a segmenter on the whole image at half size (context) and on windows at full size (detail),
fused class by class by a learned scale attention. The segmenter is one whose head reads the stages
of a backbone at stride 32 (`STRIDE`): the feature pyramid, SegFormer's and DAFormer's.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxseg.errors import UserError
from jaxseg.models.backbones import build as backbones
from jaxseg.models.backbones import given
from jaxseg.models.backbones.stages import Stage
from jaxseg.models.segmenters import segformer
from jaxseg.resize import resize_bilinear

SCALE = 2  # context is the image at 1 / SCALE
CHANNELS = 256  # of the scale attention


def fuse(
    attention: jax.Array, context: jax.Array, detail: jax.Array, corner: jax.Array | None = None
) -> jax.Array:
    """Logits of both scales as one, (1 - a) context + a detail; the product with the context is
    enlarged, not its factors.

    Args:
      attention: in 0..1, [N, h, w, K] (or one for all classes).
      context: logits [N, h, w, K].
      detail: logits [N, 2 h, 2 w, K] of the whole image, or of a window of it.
      corner: (top, left) int32 of the window on the larger grid, even numbers; outside it only the
        context counts.

    Returns:
      [N, 2 h, 2 w, K].
    """
    height, width = context.shape[1:3]
    size = (SCALE * height, SCALE * width)
    if corner is not None:
        inside = jnp.ones((1, detail.shape[1] // SCALE, detail.shape[2] // SCALE, 1))
        attention *= _placed(inside, (height, width), *(corner // SCALE))
        detail = _placed(detail, size, *corner)
    base = resize_bilinear((1 - attention) * context, size, align_corners=False)
    return resize_bilinear(attention, size, align_corners=False) * detail + base


def starts(length: int, window: int) -> list[int]:
    """Where windows begin that cover an axis, half a window apart, the last flush with its end."""
    step = window // 2
    return [min(at, length - window) for at in range(0, length - window + step, step)]


class HRDA(nn.Module):
    """A segmenter at two scales.

    Parameters are those of the segmenter, under the same names, and 'attention_head'. Training with
    a key ('dropout') looks at one window for all images of the batch; without training, and in
    training without a key (a teacher), windows half overlapping cover the image, and their logits
    are averaged. A window that is drawn and the halved image are seen by the backbone in one call
    where they are of one size; the head sees each scale by itself, so that BatchNorm has statistics
    of each, as in the reference. (A backbone with BatchNorm then has those of both together.)

    Attributes:
      backbone: maps (images, train) to `Stages`.
      segmenter: the segmenter of `given.Sizes()`, a head alone, its logits not enlarged.
      attention_head: from (stages, train) to logits, one for each class: `segformer.Head`.
      window: (height, width) in pixels, multiples of `unit`.
      unit: corners of windows are multiples of it: twice the stride of the segmenter's logits, so
        that windows fall on whole cells at both scales.
      upsample: 'main' has the images' size and a window's 'hr' the window's.
      features: also returns the last stage of the halved images.
    """

    backbone: nn.Module
    segmenter: nn.Module
    attention_head: nn.Module
    window: tuple[int, int]
    unit: int = 8
    upsample: bool = False
    features: bool = False

    def setup(self):
        nn.share_scope(self, self.segmenter)

    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Maps normalised [N, H, W, 3] to float32 {'main': fused logits [N, h, w, K], 'lr': those
        of the context [N, h / 2, w / 2, K], 'hr': those of the detail, 'window'?, 'features'?}.

        Where one window is drawn 'hr' are its logits, and 'window', int32 [2], is its top left
        corner in pixels; else 'hr' is [N, h, w, K].

        Raises:
          UserError: images or windows that are no multiples of `unit`, a window larger than the
            image, or a segmenter whose logits have another stride.
        """
        self._check(images.shape[1:3])
        drawn = train and self.has_rng("dropout")
        corners = [self._draw(images)] if drawn else self._cover(images)
        low, high = self._stages(images, corners, train, together=drawn)
        lr = self.segmenter(low, train)["main"]
        hr = self.segmenter(high, train)["main"]
        if hr.shape[1:3] != self._cells(self.window):
            raise UserError(
                f"HRDA: a window of {self.window[0]}x{self.window[1]} has logits of "
                f"{hr.shape[1]}x{hr.shape[2]}, not of stride {self.unit // SCALE}"
            )
        attention = jax.nn.sigmoid(self.attention_head(low, train))
        if drawn:
            fused = fuse(attention, lr, hr, corners[0] // (self.unit // SCALE))
        else:
            hr = self._averaged(hr, corners, images)
            fused = fuse(attention, lr, hr)
        outputs = {"main": fused, "lr": lr, "hr": hr}
        if self.upsample:
            sizes = {"main": images.shape[1:3], "hr": self.window if drawn else hr.shape[1:3]}
            for level, size in sizes.items():
                outputs[level] = resize_bilinear(outputs[level], size, align_corners=False)
        if self.features:
            outputs["features"] = low["stage4"].features.astype(jnp.float32)
        return outputs | ({"window": corners[0]} if drawn else {})

    def _check(self, size):
        other = "; to score and predict images of any size, --config.eval.window=HEIGHT,WIDTH"
        for what, sides in (("images", size), ("windows", self.window)):
            if any(side % self.unit for side in sides):
                remedy = other if what == "images" else ""
                raise UserError(
                    f"HRDA: {what} of {sides[0]}x{sides[1]}: give multiples of {self.unit}{remedy}"
                )
        if any(part > side for part, side in zip(self.window, size, strict=True)):
            raise UserError(
                f"HRDA: a window of {self.window[0]}x{self.window[1]} is larger than the image, "
                f"{size[0]}x{size[1]}: make config.net.hrda smaller{other}"
            )

    def _cells(self, size):
        return tuple(side // (self.unit // SCALE) for side in size)

    def _draw(self, images):
        """A random corner. As in the reference, the last window that would fit is never drawn."""
        margins = [n - part for n, part in zip(images.shape[1:3], self.window, strict=True)]
        counts = jnp.array([max(1, (margin + 1) // self.unit) for margin in margins])
        return self.unit * jax.random.randint(self.make_rng("dropout"), (2,), 0, counts)

    def _cover(self, images):
        rows, columns = (starts(*axis) for axis in zip(images.shape[1:3], self.window, strict=True))
        return [jnp.array((top, left)) for top in rows for left in columns]

    def _stages(self, images, corners, train, together):
        """Stages of the halved images, and of all windows, corner by corner. Seen apart, whoever
        reads the first alone (the feature distance) does not pay for the windows.
        """
        shape = (len(images), *self.window, 3)
        pieces = [lax.dynamic_slice(images, (0, top, left, 0), shape) for top, left in corners]
        half = tuple(side // SCALE for side in images.shape[1:3])
        context = resize_bilinear(images, half, align_corners=False)
        if not together or half != tuple(self.window):
            return self.backbone(context, train), self.backbone(jnp.concatenate(pieces), train)
        both = self.backbone(jnp.concatenate([context, *pieces]), train)
        parts = (slice(None, len(images)), slice(len(images), None))
        return tuple(
            {name: Stage(stage.features[part], stage.stride) for name, stage in both.items()}
            for part in parts
        )

    def _averaged(self, logits, corners, images):
        """Logits [windows N, h, w, K] at their places: [N, H, W, K]."""
        batch, size = len(images), self._cells(images.shape[1:3])
        total = jnp.zeros((batch, *size, logits.shape[-1]), logits.dtype)
        count = jnp.zeros((1, *size, 1), logits.dtype)
        for index, corner in enumerate(corners):
            top, left = corner // (self.unit // SCALE)
            part = logits[index * batch : (index + 1) * batch]
            total += _placed(part, size, top, left)
            count += _placed(jnp.ones((1, *part.shape[1:3], 1)), size, top, left)
        return total / count


def _placed(part, size, top, left):
    """Zeros of `size` but for `part`, whose corner is at (top, left)."""
    empty = jnp.zeros((len(part), *size, part.shape[3]), part.dtype)
    return lax.dynamic_update_slice(empty, part, (0, top, left, 0))


def at_two_scales(
    module: ModuleType,
    num_classes: int,
    backbone: backbones.Backbone,
    window: tuple[int, int],
    remat: bool,
    trunk: Mapping[str, Any],
    shared: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> HRDA:
    """HRDA of an architecture that says the stride of its logits, `STRIDE`: those of stages alone.

    Args:
      module: the architecture's, see `segmenters.build`.
      window: (height, width) in pixels.
      shared: norm, axis_name and dtype.
      others: see `segmenters.build`.

    Raises:
      UserError: an architecture without, or a window that cannot be.
    """
    label = module.__name__.rpartition(".")[2]
    if not hasattr(module, "STRIDE"):
        raise UserError(f"config.net.hrda={tuple(window)}: {label} does not work at two scales")
    unit = SCALE * module.STRIDE
    if len(window) != 2 or any(side < unit or side % unit for side in window):
        raise UserError(
            f"config.net.hrda={tuple(window)}: give (height, width), multiples of {unit}"
        )
    channels = min(settings.get("channels", CHANNELS), CHANNELS)
    return HRDA(
        segformer.plain(backbone, remat=remat, trunk=trunk, **shared),
        module.make(num_classes, given.Sizes(), **shared, **settings),
        segformer.Head(num_classes, channels, settings.get("dropout", 0.1), **shared),
        tuple(window), unit, upsample=True, features=True,
    )  # fmt: skip

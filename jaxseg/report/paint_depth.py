"""The colours of depth maps: near is pale yellow, far is dark blue, unknown is black."""

import numpy as np

# Logarithmic: a metre matters more for near things. Fixed, so that runs can be compared.
NEAR, FAR = 3.0, 80.0  # metres; nearer and farther values get the colours of the ends
SCALE = f"{NEAR:g} m", f"{FAR:g} m, logarithmic, black: none"
# Blue through green to yellow, rising in lightness; no colour comes close to black.
_ANCHORS = (
    *((32, 28, 98), (38, 72, 146), (34, 118, 160), (52, 160, 148)),
    *((116, 196, 118), (196, 222, 110), (253, 246, 190)),
)


def depth_palette() -> np.ndarray:
    """uint8 [256,3]: 0 stands for no depth, 1 for FAR, 255 for NEAR."""
    anchors = np.linspace(1, 255, len(_ANCHORS))
    levels = np.arange(256)
    channels = [np.interp(levels, anchors, channel) for channel in zip(*_ANCHORS, strict=True)]
    palette = np.stack(channels, -1).round().astype(np.uint8)
    palette[0] = 0
    return palette


def depth_levels(metres: np.ndarray) -> np.ndarray:
    """Depths as indices of the palette.

    Args:
      metres: floats [H,W]; values that are not positive or not finite count as unknown.

    Returns:
      uint8 [H,W].
    """
    known = np.isfinite(metres) & (metres > 0)
    clipped = np.clip(np.where(known, metres, FAR), NEAR, FAR)
    nearness = np.log(FAR / clipped) / np.log(FAR / NEAR)
    return np.where(known, 1 + (254 * nearness).round(), 0).astype(np.uint8)


def paint_depth(metres: np.ndarray) -> np.ndarray:
    """Paints a depth map [H,W] of metres; uint8 [H,W,3]. See `depth_levels`."""
    return depth_palette()[depth_levels(metres)]

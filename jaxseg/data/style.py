"""Gives one image the look of another without learning: colour alignment in Lab, histogram
matching, and Fourier domain adaptation (FDA).

Each transforms a source image with any target image as the reference. No edge moves, so the
source's labels stay valid. They are the baselines for learnt translation (CycleGAN).
"""

import numpy as np

# Linear sRGB to XYZ for the white point D65, and that white point (IEC 61966-2-1).
_TO_XYZ = np.array(
    ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750),
     (0.0193339, 0.1191920, 0.9503041))
)  # fmt: skip
_WHITE = _TO_XYZ.sum(1)
_KINK = 6 / 29  # below its cube, CIE Lab replaces the cube root by a line


def to_lab(image: np.ndarray) -> np.ndarray:
    """Converts sRGB to CIE Lab.

    Args:
      image: [..., 3], 0 to 255.

    Returns:
      float64 [..., 3]: L (0 to 100), a (green to red), b (blue to yellow).
    """
    value = np.asarray(image, np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    bent = np.where(ratio > _KINK**3, np.cbrt(ratio), ratio / (3 * _KINK**2) + 4 / 29)
    x, y, z = np.moveaxis(bent, -1, 0)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """The inverse of `to_lab`, clipped to the sRGB gamut: uint8 [..., 3]."""
    lightness, a, b = np.moveaxis(np.asarray(lab, np.float64), -1, 0)
    y = (lightness + 16) / 116
    bent = np.stack((y + a / 500, y, y - b / 200), -1)
    ratio = np.where(bent > _KINK, bent**3, 3 * _KINK**2 * (bent - 4 / 29))
    linear = np.clip(ratio * _WHITE @ np.linalg.inv(_TO_XYZ).T, 0, 1)
    value = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _rounded(255 * value)


def match_lab(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Gives the image the reference's mean and covariance of colours in Lab.

    Reinhard et al., "Color Transfer between Images" (2001), match the mean and standard deviation
    of each channel. Here the covariance is matched too, by the linear map that moves colours least
    (Pitié and Kokaram, "The linear Monge-Kantorovitch linear colour mapping", 2007), so that a blue
    cast that grows with lightness is matched as well.

    Args:
      image: uint8 [H, W, 3].
      reference: uint8 [h, w, 3] of any size.

    Returns:
      uint8 [H, W, 3].
    """
    source, wanted = (to_lab(x).reshape(-1, 3) for x in (image, reference))
    root = _root(_covariance(source))
    inverse = np.linalg.inv(root)
    transport = inverse @ _root(root @ _covariance(wanted) @ root) @ inverse
    moved = (source - source.mean(0)) @ transport + wanted.mean(0)
    return from_lab(moved.reshape(image.shape))


def _covariance(colours: np.ndarray) -> np.ndarray:
    return np.cov(colours, rowvar=False) + 1e-3 * np.eye(3)  # invertible for one colour too


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def match_histograms(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Gives the image the reference's histogram in each of red, green and blue.

    Each value becomes the reference's value of equal rank (histogram specification; Gonzalez and
    Woods, Digital Image Processing).

    Args:
      image: uint8 [H, W, 3].
      reference: uint8 [h, w, 3] of any size.

    Returns:
      uint8 [H, W, 3].
    """
    out = np.empty_like(image)
    for channel in range(3):
        own = np.bincount(image[..., channel].ravel(), minlength=256).cumsum()
        other = np.bincount(reference[..., channel].ravel(), minlength=256).cumsum()
        present = np.flatnonzero(np.diff(other, prepend=0))  # values that the reference has
        table = np.interp(own / own[-1], other[present] / other[-1], present)
        out[..., channel] = _rounded(table)[image[..., channel]]
    return out


def match_spectrum(image: np.ndarray, reference: np.ndarray, beta: float) -> np.ndarray:
    """Fourier domain adaptation: replaces the image's low-frequency amplitudes by the reference's;
    phases and other amplitudes stay (Yang and Soatto, "FDA: Fourier Domain Adaptation for Semantic
    Segmentation", CVPR 2020).

    The band is that of the paper's code: b x b values at each corner of the spectrum, that is,
    frequencies -b to b - 1, with b = floor(beta * shorter side). It is not symmetric, so the result
    is complex, and its real part is taken. With b = 0 the image is unchanged.

    Args:
      image: uint8 [H, W, 3].
      reference: uint8 [H, W, 3], of the image's size.
      beta: width of the band as a share of the shorter side; 0.01, 0.05 and 0.09 in the paper.

    Returns:
      uint8 [H, W, 3]; rounded and clipped to 0 and 255, which the paper's code does not do.

    Raises:
      ValueError: images of different sizes.
    """
    if image.shape != reference.shape:
        raise ValueError(f"an image of {image.shape} cannot take amplitudes of {reference.shape}")
    width = int(min(image.shape[:2]) * beta)
    if width == 0:
        return image
    spectrum = np.fft.fft2(image.astype(np.float64), axes=(0, 1))
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)
    wanted = np.abs(np.fft.fft2(reference.astype(np.float64), axes=(0, 1)))
    low, high = slice(0, width), slice(-width, None)
    for rows in (low, high):
        for columns in (low, high):
            amplitude[rows, columns] = wanted[rows, columns]
    mixed = np.fft.ifft2(amplitude * np.exp(1j * phase), axes=(0, 1))
    return _rounded(mixed.real)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)

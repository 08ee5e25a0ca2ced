"""Trained networks in a Python program: `jaxseg.load`.

>>> import jaxseg, numpy
>>> model = jaxseg.load(run_folder)  # a run's folder, or a weights file
>>> street = numpy.zeros((40, 60, 3), numpy.uint8)  # or a path, or a PIL image
>>> out = model(street)
>>> out.labels.shape, out.labels.dtype
((40, 60), dtype('int32'))
>>> out.probabilities.shape  # a class's share of 1 for each pixel; computed when asked for
(40, 60, 19)
>>> out.classes[:2]
('road', 'sidewalk')
>>> out.overlay().shape  # the classes' colours over the photograph
(40, 60, 3)
"""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxseg.data import labels, photograph
from jaxseg.data.labels import LabelSet
from jaxseg.engine import memory
from jaxseg.errors import UserError
from jaxseg.experiment import check, finished, presets
from jaxseg.experiment import memory as experiment_memory
from jaxseg.experiment import settings as experiment_settings
from jaxseg.experiment.finished import Wanted
from jaxseg.experiment.method import make_predictor
from jaxseg.experiment.restore import Loaded
from jaxseg.report import paint
from jaxseg.run import images as run_images
from jaxseg.run import maps
from jaxseg.storage import run_folder

# The experiment whose protocol a published file is used with, if none is named.
PUBLISHED = "source_only:gta5_cityscapes"
# Class sets by their number of classes, where a file does not tell more.
SETS = {19: "cityscapes", 16: "synthia16", 13: "crosscity13", 11: "camvid", 10: "virtual_kitti"}


class Segmentation:
    """The prediction for one image or a batch; maps are computed when they are asked for.

    Attributes:
      image: uint8 [H,W,3] (of a batch [N,H,W,3], and so on), as it was given.
      classes: names of the K classes.
    """

    def __init__(
        self, image: np.ndarray, logits: jax.Array, label_set: LabelSet,
        maps: dict[str, Callable], advise: Callable[[], str],
    ):  # fmt: skip
        self.image, self.classes = image, label_set.classes
        self._logits, self._label_set, self._maps = logits, label_set, maps
        self._advise = advise

    def _map(self, kind: str) -> Any:
        with experiment_memory.told_with(self._advise):
            found = self._maps[kind](self._logits, self.image.shape[-3:-1])
            return jax.tree.map(lambda m: np.asarray(m if self.image.ndim == 4 else m[0]), found)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Class ids int32 [H,W]; `classes` has their names."""
        return self._map("labels")

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float32 [H,W,K]."""
        return self._map("probabilities")

    @functools.cached_property
    def entropy(self) -> np.ndarray:
        """Uncertainty of each pixel, float32 [H,W]: 0 is certain, 1 is uniform over the classes."""
        return self._map("entropy")

    @functools.cached_property
    def small(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a page shows: `labels` and `entropy` in 255ths, both uint8 [H,W], and the mean of
        `entropy`, float32 []."""
        return self._map("small")

    def overlay(self, strength: float = 0.55) -> np.ndarray:
        """The classes' colours laid over the image, uint8 [H,W,3].

        Args:
          strength: 0 shows the image, 1 the colours.
        """
        if self.image.ndim == 3:
            return paint.overlay(self.image, self.labels, self._label_set, strength)
        pairs = zip(self.image, self.labels, strict=True)
        return np.stack([paint.overlay(*pair, self._label_set, strength) for pair in pairs])

    def colours(self) -> np.ndarray:
        """The classes' colours alone, uint8 [H,W,3]."""
        return labels.colorize(self.labels, self._label_set)


class Model:
    """A trained network that segments images; see `load`.

    It can be called from several threads. Each size of image is compiled once.

    Attributes:
      name: such as 'step 700'.
      config: of the experiment, with the network's own settings.
      classes: names of the K classes.
      label_set: the same with colours.
      size: (height, width) that images are resized to for the network (bicubic, as in evaluation);
        None gives it every image as it is.
      predict: (params, stats, memory, images uint8 [N,H,W,3]) -> logits [N,h,w,K], under the
        protocol of `config.eval`.
      variables: the first three arguments of `predict`, on the device.
    """

    def __init__(self, loaded: Loaded):
        self.name, self.config = loaded.name, loaded.config
        self.label_set = experiment_settings.label_set(loaded.config)
        self.classes = self.label_set.classes
        self.size = experiment_settings.network_size(loaded.config)
        self.predict = make_predictor(loaded.config, loaded.method)
        self.variables = jax.device_put(
            tuple(loaded.model[key] for key in ("params", "stats", "memory"))
        )

        def look(compiled, _, images):
            what = "predicting an image" if len(images) == 1 else f"predicting {len(images)} images"
            maps.check(compiled, what, images.shape[1:3], self._advise)

        network = jax.jit(lambda model, images: self.predict(*model, images).astype(jnp.float32))
        self._network = maps.compiled_once(memory.looked_at(network, look))
        self._maps = maps.make_maps(self._advise)

    def __call__(self, image: Any) -> Segmentation:
        """Segments an image.

        Args:
          image: uint8 [H,W,3] RGB or [H,W] grey, a batch of them uint8 [N,H,W,3], the path of an
            image, or a PIL image. Files and PIL images are read as in training and prediction:
            turned upright, transparency white, 16 bits cut to 8.

        Raises:
          UserError: a file that cannot be read, an array of another kind, or an image that needs
            more memory than is free.
        """
        pixels = _pixels(image)
        seen = pixels if pixels.ndim == 4 else pixels[None]
        with experiment_memory.told_with(self._advise):
            logits = self._network(self.variables, run_images.resized(seen, self.size))
        return Segmentation(pixels, logits, self.label_set, self._maps, self._advise)

    def _advise(self) -> str:
        return experiment_memory.of_prediction(self.config)

    def __repr__(self) -> str:
        return f"<jaxseg.Model {self.name} of {self.config.name}, {len(self.classes)} classes>"


def load(
    source: str | os.PathLike,
    step: str | int = "best",
    *,
    config: str | ConfigDict | None = None,
    settings: Mapping[str, Any] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Model:
    """Loads a trained network.

    Args:
      source: the folder of a run, or a weights file (.pth, .npz, .safetensors, ...). Published
        networks are recognised.
      step: of a run: 'best' (by target labels), 'last', a criterion without target labels such as
        'entropy' (see `restore.CHOICES`), or a number.
      config: of a weights file: the experiment it belongs to, such as 'advent:gta5_cityscapes' or a
        config. A published file's classes follow from their number, and its images are resized to
        512x1024. A file with this project's names needs it.
      settings: settings to change, as {'eval.flip': True, 'data.target.size': (512, 1024)}.
      announce: called with each message, one line of text; None for silence.

    Raises:
      UserError: nothing is found there, or it does not fit.
    """
    announce = announce or (lambda line: None)
    path = Path(source).expanduser()
    if path.is_dir():
        if config is not None:
            raise UserError(f"{source} is a run, which has its own config: leave out config=")
        if not (path / run_folder.CONFIG).is_file():
            raise UserError(f"{source} is not the folder of a run: it has no {run_folder.CONFIG}")
        config = run_folder.read_config(path)
        wanted = Wanted(step=str(step))
    else:
        if not path.exists():
            raise UserError(f"{source} is neither the folder of a run nor a weights file")
        if step != "best":
            raise UserError(f"step={step!r} is for a run's folder; {source} is a weights file")
        config = _config_of(path, config)
        wanted = Wanted(weights=str(path))
    changed = _with(config, settings or {})
    check.check(changed)
    wanted = wanted._replace(given=tuple(settings or ()))
    return Model(finished.load(changed, path, wanted, announce=announce))


def _config_of(path: Path, config: str | ConfigDict | None) -> ConfigDict:
    """The config for a weights file; the classes of published ones by their number."""
    if isinstance(config, ConfigDict):
        return config.copy_and_resolve_references()
    if config is not None:
        return presets.load(config)
    from jaxseg.storage.weights import files, recognise

    recognised = recognise.recognise(files.load(path), path)
    if not recognised.net:
        raise UserError(
            f"{path} has this project's names, which do not tell its settings: "
            "give config='EXPERIMENT:PRESET', or the folder of its run"
        )
    if recognised.num_classes not in SETS:
        raise UserError(
            f"{path} has {recognised.num_classes} classes: give config= with their names"
        )
    found = presets.load(PUBLISHED).copy_and_resolve_references()
    with found.unlocked():
        found.data.classes = SETS[recognised.num_classes]
    return found


def _with(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    config = config.copy_and_resolve_references()
    for key, value in changes.items():
        group, _, name = key.rpartition(".")
        try:
            place = functools.reduce(
                lambda inner, part: inner[part], filter(None, group.split(".")), config
            )
            if name not in place:
                raise KeyError(name)
        except (KeyError, TypeError) as error:
            raise UserError(f"settings: the config has no setting {key!r}") from error
        with config.unlocked(), config.ignore_type():
            place[name] = value
    return config


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, str | os.PathLike):
        return run_images.read(Path(image).expanduser())
    if isinstance(image, Image.Image):
        return photograph.upright(image)
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=-1)
    if (
        array.dtype != np.uint8
        or array.ndim not in (3, 4)
        or array.shape[-1] != 3
        or not array.size
    ):
        raise UserError(
            f"an image of {array.dtype} {list(array.shape)}: wanted uint8 [H,W,3], RGB in 0..255, "
            "or a batch uint8 [N,H,W,3]"
        )
    return array

"""What `gio_ada` and `dada` share: sources whose depth is known.

A preset names the pair of data sets:
  streets              rendered -> photographic, embedded, minutes on a laptop (the default)
  streets_camvid       rendered streets -> CamVid photographs, 11 classes
  streets_folder       rendered streets -> your own photographs
  virtual_kitti_kitti  Virtual KITTI 1.3.1 -> KITTI, 10 classes, 384x1248
  synthia_cityscapes   SYNTHIA-RAND-CITYSCAPES -> Cityscapes, 16 classes
On the three `streets` presets the networks begin with the ImageNet weights of EfficientNet-Lite0;
`+scratch` is a small one without.

KITTI's and Cityscapes' depth, to score the predicted one by, is made from the published disparity:
--config.data.target.options.depth=disparity. It is not learnt from.
"""

from ml_collections import ConfigDict

from configs import common

PRESETS = (
    "streets",
    "streets_camvid",
    "streets_folder",
    "virtual_kitti_kitti",
    "synthia_cityscapes",
)


def parse(preset: str, modifiers: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """`streets+depth` as ('streets', ('depth',)).

    Raises:
      ValueError: unknown preset or modifier.
    """
    base, *given = preset.split("+")
    if base == "folders":
        raise ValueError(
            "own folders have no depth, which this method learns from: take another config, or "
            f"one of the presets {', '.join(PRESETS)}"
        )
    for kind, known, found in (("preset", PRESETS, [base]), ("modifier", modifiers, given)):
        if unknown := [x for x in found if x not in known]:
            choices = ", ".join(known)
            raise ValueError(f"unknown {kind} {unknown[0]!r}; choose one of {choices}")
    return base, tuple(m for m in modifiers if m in given)


def experiment(name: str, preset: str, modifiers: tuple[str, ...]) -> ConfigDict:
    """Data, schedule, and the network of these presets with a depth head; the method's own follows.

    Args:
      name: of the experiment; with the preset it names the run (`gio_ada_streets`).
      preset: one of PRESETS, with modifiers after plus signs.
      modifiers: those that the experiment has; `reference`, `scratch` and `vgg16` are `common`'s.

    Raises:
      ValueError: unknown preset or modifier, or `scratch` of a pair that is not embedded.
    """
    base, given = parse(preset, modifiers)
    pair = "synthia_cityscapes" if base == "virtual_kitti_kitti" else base
    shared = [m for m in given if m in common.MODIFIERS]
    config = common.experiment(name, "+".join((pair, *shared)))
    config.name = "_".join((name, base, *given))
    if base == "virtual_kitti_kitti":
        _virtual_kitti_kitti(config)
    config.net.aux = False
    config.net.depth = True
    return config


def _virtual_kitti_kitti(config):
    size = (384, 1248)  # the published 375x1242 with room for strides of 32
    source = dict(name="virtual_kitti", split="train_rest", val_split="val", size=size)
    options = ConfigDict(dict(version="1.3.1", variations=()))  # all ten of its weathers and views
    config.data.source = ConfigDict(source | dict(options=options))
    target = dict(name="kitti", split="train", val_split="val", size=size)
    config.data.target = ConfigDict(target | dict(options=ConfigDict(dict(depth=""))))
    config.data.classes = "virtual_kitti"
    config.eval.also = ()

"""What `dacs`, `daformer` and `cbst` share: crops, networks and optimisers of self-training.

Three modifiers are theirs alone; they follow those of `common`, as in `cityscapes_acdc+hrda+mic`:
  hrda  the network at two scales (HRDA): a DAFormer head, images and crops of twice the size
        (embedded pairs: of their own size, with a window of half of it)
  mic   masked image consistency, with the settings of its paper for the preset
  vfm   DAFormer's on a vision foundation model, see `_on_foundation`
"""

from ml_collections import ConfigDict

from configs import common, embedded, settings

# Names of the classes that ImageNet has photographs of, in Cityscapes' and CamVid's words.
THINGS = (
    *("traffic light", "traffic sign", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle", "Car", "Pedestrian", "Bicyclist", "SignSymbol"),
)
MODIFIERS = ("hrda", "mic", "vfm")
# (height, width) of the source at which it is trained; HRDA's is twice DAFormer's. DAFormer keeps
# the proportions of GTA5's images, DACS does not.
SOURCES = dict(gta5=(720, 1280), synthia=(760, 1280), urbansyn=(512, 1024), cityscapes=(512, 1024))

IN_PROPORTION = dict(SOURCES, gta5=(704, 1280))
# (height, width): the shorter side has 1024 rows, GTA5's 1440; proportions as published.
VFM_SIZES = dict(
    gta5=(1440, 2620), synthia=(1024, 1725), urbansyn=(1024, 2048), cityscapes=(1024, 2048),
    acdc=(1024, 1820), dark_zurich=(1024, 1820), crosscity=(1024, 2048),
)  # fmt: skip
VFM_MARGINS = (0.03, 0.25, 0.03, 0.03)  # top, bottom, left and right of the whole image
PUBLISHED = dict(gta5=(1052, 1914), synthia=(760, 1280), urbansyn=(1024, 2048))  # else Cityscapes'


def split(preset: str) -> tuple[str, tuple[str, ...]]:
    """`gta5_cityscapes+hrda+reference` as ('gta5_cityscapes+reference', ('hrda',))."""
    base, *modifiers = preset.split("+")
    others = [m for m in modifiers if m not in MODIFIERS]
    return "+".join((base, *others)), tuple(m for m in MODIFIERS if m in modifiers)


def experiment(name: str, preset: str) -> ConfigDict:
    """The data, network and optimiser of one preset, but for `finish`.

    Raises:
      ValueError: unknown preset or modifier; `vgg16` is none here.
    """
    rest, own = split(preset)
    known = (*(m for m in common.MODIFIERS if m != "vgg16"), *MODIFIERS)
    unknown = [m for m in rest.split("+")[1:] if m not in (*known, "vgg16")]
    if unknown:
        raise ValueError(f"unknown modifier {unknown[0]!r}; choose one of {', '.join(known)}")
    _, modifiers = common.parse(rest)
    if "vgg16" in modifiers:
        raise ValueError("self-training has no preset on VGG-16: leave out 'vgg16'")
    config = common.experiment(name, rest)
    config.name = "_".join((config.name, *own))
    config.net.statistics = "both"
    if not small(preset):
        config.data.source.size = SOURCES[config.data.source.name]
        config.augment = ConfigDict(
            dict(
                source=settings.augmentation(crop=(512, 512), flip=0.5),
                target=settings.augmentation(crop=(512, 512), flip=0.5),
            )
        )
        config.train.update(dict(batch=2, steps=250_000, eval_every=4000))
        config.net.norm = "train"
    return config


def transformer(config: ConfigDict) -> None:
    """DAFormer's network and optimiser: MiT-B5, AdamW with warm-up, 40,000 steps."""
    config.net = settings.network("daformer", "mit_b5", preprocess="imagenet", statistics="both")
    config.data.source.size = IN_PROPORTION[config.data.source.name]
    config.augment.source.crop_cap = 0.75
    config.optim.gen.update(
        dict(
            optimiser="adamw",
            lr=6e-5,
            betas=(0.9, 0.999),
            weight_decay=0.01,
            head_multiplier=1.0,
            repeat_backbone=False,  # of the older codes' `reference`, as their schedule
            groups=(
                (r"segmenter/(main_head|attention_head|decoder)", dict(rate=10.0)),
                settings.NO_DECAY_OF_NORMS,
            ),
            schedule="linear",
            warmup_steps=1500,
        )
    )
    config.data.rare_classes.temperature = 0.01
    _enough_pixels(config)
    config.train.update(dict(batch=2, steps=40_000, eval_every=4000))
    for player in ("gen", "disc"):
        config.optim[player].schedule_steps = config.train.get_ref("steps") * 1


def _enough_pixels(config):
    """Images are drawn for a class of which they show 3000 pixels as they were published."""
    source = config.data.source
    published = PUBLISHED.get(source.name, (1024, 2048))
    share = (source.size[0] * source.size[1]) / (published[0] * published[1])
    config.data.rare_classes.min_pixels = round(3000 * share)


def finish(config: ConfigDict, preset: str) -> ConfigDict:
    """Adds what `hrda`, `mic` and `vfm` say, once the method is there, and locks the config."""
    _, own = split(preset)
    if "vfm" in own:
        _on_foundation(config, own, small(preset))
    if "hrda" in own:
        _two_scales(config, small(preset))
    config.mic.block = common.hidden_block(config)
    if "mic" in own:
        _masked(config)
    return config.lock()


def _on_foundation(config, own, embedded):
    """VFM-UDA (Englert et al., CVPR workshops 2024), by its released code: network, crops, colours,
    optimiser and masking, once the method is there; what differs is listed in docs/methods.md.

    The rate is 5e-5 times the square root of the batch, as published for 8 images; with another
    batch it has to be given anew (`optim.gen.lr`).
    """
    if embedded or config.method.name != "daformer" or len(own) > 1:
        raise ValueError(
            "'vfm' is for the papers' presets of configs/daformer.py, such as gta5_cityscapes+vfm; "
            "it has masked tokens and no second scale: leave out 'mic' and 'hrda'"
        )
    config.net = settings.network("vfm", "dinov2_vitb14", preprocess="imagenet", statistics="both")
    for side in ("source", "target"):
        config.data[side].size = VFM_SIZES[config.data[side].name]
        config.augment[side].update(dict(crop=(1024, 1024), scale=(0.9, 1.1)))
    config.augment.source.update(
        dict(brightness=32 / 255, contrast=0.5, saturation=0.5, hue=18 / 360, crop_tries=20)
    )
    config.data.rare_classes.update(dict(temperature=0.05, crop_pixels=6000))
    config.train.update(dict(batch=8, steps=40_000, eval_every=4000))
    config.optim.gen.update(
        dict(
            lr=5e-5 * 8**0.5,
            groups=((r"segmenter/backbone/", dict(rate=0.1)),),
            warmup_start=1e-3,
        )
    )
    config.eval.update(dict(window=(1024, 1024), stride=(512, 512)))
    config.mic.update(dict(weight=1.0, ratio=0.7, tokens=True, colours="torchvision"))
    config.method.settings.update(
        dict(
            feature_distance=0.0,
            per_image=True,
            mirrored=True,
            margins=VFM_MARGINS,
            colours="torchvision",
        )
    )
    _enough_pixels(config)


def _two_scales(config, embedded):
    """HRDA's sizes are twice DAFormer's, its window half a crop; the window weighs 0.1."""
    if embedded:
        config.net.update(dict(architecture="daformer", aux=False, rates=None, summed=None))
        config.net.update(dict(channels=64, stride_in=None))
        config.net.hrda = tuple(side // 16 * 8 for side in config.data.target.size)
    else:
        if config.net.architecture != "daformer":
            raise ValueError(
                "'hrda' is for configs/daformer.py: DeepLabV2 does not work at two scales"
            )
        for side in ("source", "target"):
            config.data[side].size = tuple(2 * n for n in config.data[side].size)
            config.augment[side].crop = (1024, 1024)
        _enough_pixels(config)
        config.net.hrda = (512, 512)
        config.eval.update(dict(window=(1024, 1024), stride=(512, 512)))
        config.data.rare_classes.crop_pixels = 6000
        if any(config.method.settings.margins):
            # Of the whole image: the crop tells neither its left nor its right.
            config.method.settings.margins = (30 / 1024, 240 / 1024, 30 / 2048, 30 / 2048)
    config.method.settings.segmentation_weights = ConfigDict({"main": 0.9, "hr": 0.1})


def _masked(config):
    """Adverse conditions (ACDC, Dark Zurich) also mask the source, without other colours: the
    paper's batch of one source and one target image is here the mean over both batches.
    """
    config.mic.weight = 1.0
    if config.data.target.name in ("acdc", "dark_zurich"):
        config.mic.update(dict(weight=0.5, source=True, jitter_probability=0.0))
        config.mic.blur_probability = 0.0


def levels(config: ConfigDict) -> dict[str, float]:
    """Weights of the output levels; the auxiliary one where the network has it."""
    return {"main": 1.0, "aux": 0.1} if config.net.aux else {"main": 1.0}


def margins(config: ConfigDict) -> tuple[float, float]:
    """Shares of a crop, at the top and at the bottom, without pseudo labels: DAFormer's for
    Cityscapes, whose images are rectified and show the car that carries the camera.
    """
    return (15 / 512, 120 / 512) if config.data.target.name == "cityscapes" else (0.0, 0.0)


def small(preset: str) -> bool:
    """Whether it is one of the embedded pairs, or a user's own."""
    return embedded.small(preset)


def reference(preset: str) -> bool:
    """Whether the released code is reproduced, its quirks included."""
    return "reference" in common.parse(split(preset)[0])[1]

"""What `dacs`, `daformer` and `cbst` share: crops, networks and optimisers of self-training."""

from ml_collections import ConfigDict

from configs import common, settings

# Names of the classes that ImageNet has photographs of, in Cityscapes' and CamVid's words.
THINGS = (
    *("traffic light", "traffic sign", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle", "Car", "Pedestrian", "Bicyclist", "SignSymbol"),
)


def experiment(name: str, preset: str) -> ConfigDict:
    """The data, network and optimiser of one preset.

    Raises:
      ValueError: unknown preset or modifier; `vgg16` is none here.
    """
    base, modifiers = common.parse(preset)
    if "vgg16" in modifiers:
        raise ValueError("self-training has no preset on VGG-16: leave out 'vgg16'")
    config = common.experiment(name, preset)
    config.net.statistics = "both"
    if not base.startswith("streets"):
        config.data.source.size = (760, 1280) if base == "synthia_cityscapes" else (720, 1280)
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
    config.augment.source.crop_cap = 0.75
    config.optim.gen.update(
        dict(
            optimiser="adamw",
            lr=6e-5,
            betas=(0.9, 0.999),
            weight_decay=0.01,
            head_multiplier=1.0,
            groups=(
                (r"segmenter/(main_head|decoder)", dict(rate=10.0)),
                settings.NO_DECAY_OF_NORMS,
            ),
            schedule="linear",
            warmup_steps=1500,
        )
    )
    config.data.rare_classes.temperature = 0.01
    config.train.update(dict(batch=2, steps=40_000, eval_every=4000))


def levels(config: ConfigDict) -> dict[str, float]:
    """Weights of the output levels; the auxiliary one where the network has it."""
    return {"main": 1.0, "aux": 0.1} if config.net.aux else {"main": 1.0}


def reference(preset: str) -> bool:
    """Whether the released code is reproduced, its quirks included."""
    return "reference" in common.parse(preset)[1]

"""Supervised training: a pretrained pyramid, or the DeepLabV3 of the MiniCity tutorial (VIPriors
2020), with its losses, mixes and norms.

python launch.py --config=configs/baseline.py                    # streets
python launch.py --config=configs/baseline.py:camvid --config.method.settings.mixes.cutmix=0.5
python launch.py --config=configs/baseline.py:minicity           # DeepLabV3 ResNet-50, 1024x2048
python launch.py --config=configs/baseline.py:minicity+resnet101    # ResNet-101, 512x1024
python launch.py --config=configs/baseline.py:folder --config.data.root=DIR \\
    --config.data.classes=DIR/classes.txt --config.data.target.options.images=photos \\
    --config.data.target.options.labels=labels      # the pyramid of `camvid`, at the images' size
python launch.py --config=configs/baseline.py:folder+resnet50 ...   # the DeepLabV3 of `minicity`

Other losses: --config.method.settings.losses.cross_entropy=0 and, say,
--config.method.settings.losses.focal=1, or ...weighted=1 with ...settings.class_weights=median; the
pyramid's loss is half `weighted` already: ...losses.weighted=0 leaves that out.
Other norms: --config.net.norm=instancenorm, groupnorm, evonorm; not with the pyramid's weights, so
behind `+scratch`, `minicity` or `folder+resnet50`.
U-Net: --config.net.architecture=unet --config.net.backbone=small (or unet).

The rate falls along a cosine, as the tutorial means it to; its program passes something else for
the epoch, so that the rate stays what it was: --config.optim.gen.schedule=poly
--config.optim.gen.power=0 for that.
"""

from configs import supervised

PRESETS = ("streets", "camvid", "minicity", "folder")
MODIFIERS = ("resnet50", "resnet101", "pretrained", "scratch")


def get_config(preset: str = "streets"):
    """See `supervised` for the presets; `minicity` and `folder` take `+resnet101`, `folder` takes
    `+resnet50`, which `minicity` is, `streets` and `camvid` take `+scratch`."""
    config = supervised.experiment("baseline", preset, PRESETS, MODIFIERS)
    base, *modifiers = preset.split("+")
    embedded, small = base in ("streets", "camvid"), config.net.backbone == "small"
    deeper = [m for m in modifiers if m.startswith("resnet")]
    if embedded and deeper:
        raise ValueError(f"the preset {base} has no modifier {deeper[0]!r}")
    if len(deeper) == 2:
        raise ValueError("'resnet50' and 'resnet101': choose one")
    config.method = supervised.method(supervised.PAIRS.get(base, ()), cross_entropy=1.0)
    config.augment.source.update(dict(scale=(0.75, 2.0), flip=0.5))
    if (embedded and not small) or (base == "folder" and not deeper):
        config.augment.source.update(dict(jitter=0.2))
        config.train.update(dict(batch=4, steps=800, eval_every=200))
        # Half of the loss weighs classes by their rarity: without it poles, signs, fences and
        # people are not learnt in so few steps. Chosen on a part of CamVid's training images.
        settings = config.method.settings
        settings.losses.update(dict(cross_entropy=0.5, weighted=0.5))
        settings.class_weights = ("median",)
        return config.lock()
    config.net.update(
        dict(
            architecture="deeplabv3",
            backbone="small" if small else "resnet50",
            rates=(2, 4, 6) if small else (12, 24, 36),
            summed=None,  # of DeepLabV2
            output_stride=8,
            dropout=0.5,
            stride_in="3x3",
            preprocess="imagenet",
        )
    )
    # The order is that of the tutorial: scale, crop, flip, colours.
    config.augment.source.update(dict(jitter=0.3, hue=0.3))
    gen = config.optim.gen
    gen.schedule = "cosine"
    gen.weight_decay = 1e-4
    gen.head_multiplier = 1.0
    if small:
        gen.lr = 0.1
        config.train.update(dict(batch=4, steps=700, eval_every=140))
    else:
        gen.lr = 1e-2
        # 200 epochs of 200 images.
        config.train.update(dict(batch=8, steps=5000, eval_every=500, log_every=25))
        deep = "resnet101" in modifiers
        if base != "folder":
            config.data.target.size = (512, 1024) if deep else (1024, 2048)
            config.augment.source.crop = (384, 768) if deep else (576, 1152)
        config.net.backbone = "resnet101" if deep else "resnet50"
    return config.lock()

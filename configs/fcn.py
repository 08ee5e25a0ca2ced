"""Fully convolutional networks (Long et al., 2015), as NVIDIA DIGITS trains them too.

python launch.py --config=configs/fcn.py                         # streets, a small FCN-8s
python launch.py --config=configs/fcn.py:streets+vgg16           # on VGG-16's convolutions, which
                                                                 # a package has (docs/weights.md)
python launch.py --config=configs/fcn.py:camvid
python launch.py --config=configs/fcn.py:synthia_rand_cvpr16 --config.data.root=DIR \\
    --config.init.backbone=bvlc_alexnet.caffemodel               # FCN-AlexNet
python launch.py --config=configs/fcn.py:synthia_rand_cvpr16+fcn8s --config.data.root=DIR \\
    --config.init.backbone=VGG_ILSVRC_16_layers.caffemodel       # FCN-8s

FCN-32s and -16s: --config.net.output_stride=32 or 16. Without initial weights the large networks
are said to learn little but the commonest class.

SYNTHIA-RAND-CVPR16: DIR/synthia_rand_cvpr16/RGB/*.png and, of the same names, its colours in GT/;
configs/synthia_rand_cvpr16.txt lists the colours. A tenth of the images is held out.
"""

from configs import supervised

PRESETS = ("streets", "camvid", "synthia_rand_cvpr16")
MODIFIERS = ("fcn8s", "vgg16")


def get_config(preset: str = "streets"):
    """See `supervised` for the presets; `synthia_rand_cvpr16` takes `+fcn8s`, the others `+vgg16`,
    which begins with pretrained weights; `--config.init.backbone=` begins with random ones.
    """
    base, *modifiers = preset.split("+")
    small = base in ("streets", "camvid")
    config = supervised.experiment("fcn", preset, PRESETS, MODIFIERS, scratch=small)
    if modifiers and (modifiers[0] == "fcn8s") == small:
        why = "it is an FCN-8s" if small else "give the file with --config.init.backbone=FILE"
        raise ValueError(f"the preset {base} has no modifier {modifiers[0]!r}: {why}")
    large = "vgg16" in modifiers
    eight = small or "fcn8s" in modifiers
    light = "vgg16_narrow" if large else "vgg16_small"
    config.net.update(
        dict(
            architecture="fcn",
            backbone=light if small else "vgg16" if eight else "alexnet",
            rates=None,  # of DeepLab, as the next, on a ResNet
            summed=None,
            stride_in=None,
            output_stride=8 if eight else 32,
            dropout=0.5,
            preprocess="caffe" if eight else "digits",
        )
    )
    config.augment.source.flip = 0.5 if small else 0.0
    gen = config.optim.gen
    gen.head_multiplier = 1.0
    gen.weight_decay = 5e-4
    if small:  # from scratch in hundreds of steps
        gen.lr, gen.clip = 1e-2, 1.0
        config.train.update(dict(batch=4, steps=700, eval_every=140))
        if large:  # thirteen convolutions at full width are as much as two cores can do
            config.init.backbone = "vgg16_hed"
            gen.lr, gen.clip = 3e-4, 0.0
            size = (64, 128) if base == "streets" else (96, 128)
            config.data.source.size = config.data.target.size = size
            config.train.update(dict(steps=200, eval_every=40))
    else:
        gen.lr, gen.power = 1e-4, 0.0  # of the mean over the pixels; it stays as it is
        options = config.data.target.options
        options.images, options.labels = "synthia_rand_cvpr16/RGB", "synthia_rand_cvpr16/GT"
        options.label_values = "colour"
        config.data.classes = __file__.rpartition("/")[0] + "/synthia_rand_cvpr16.txt"
        config.data.target.size = (720, 960)
        config.train.update(dict(batch=1, steps=60_000, eval_every=6000))
    config.method = supervised.method(supervised.PAIRS.get(base, ()), cross_entropy=1.0)
    return config.lock()

"""DAFormer: self-training, rare-class sampling, a feature distance (Hoyer et al., CVPR 2022).

python launch.py --config=configs/daformer.py                     # streets, minutes on two cores
python launch.py --config=configs/daformer.py:gta5_cityscapes     # published: 68.3 mIoU
python launch.py --config=configs/daformer.py:synthia_cityscapes  # published: 60.9 (16 classes)

The papers' presets need the ImageNet weights of MiT-B5: --config.init.backbone=mit_b5.pth.
MIC on top of it: --config.mic.weight=1 --config.mic.block=32
"""

from configs import common, self_training


def get_config(preset: str = "streets"):
    """See `common.PRESETS`; there is no `vgg16`."""
    config = self_training.experiment("daformer", preset)
    small = preset.startswith("streets")
    if small:
        config.data.rare_classes.update(dict(temperature=0.1, min_pixels=50, crop_pixels=0))
    else:
        self_training.transformer(config)
    config.method = common.method(
        "daformer",
        segmentation_weights=self_training.levels(config),
        target_weight=1.0,
        decay=0.99 if small else 0.999,
        threshold=0.9 if small else 0.968,
        margins=(0.0, 0.0) if small else (15 / 512, 120 / 512),
        jitter=0.2,
        jitter_probability=0.8,
        blur_probability=0.5,
        per_image=False,
        feature_distance=0.005,  # weight; 0 for none
        things=self_training.THINGS,  # names of the classes that the distance is taken on
        over_all=self_training.reference(preset),
        of_teacher=small,
    )
    return config.lock()

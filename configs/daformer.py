"""DAFormer: self-training, rare-class sampling, a feature distance (Hoyer et al., CVPR 2022), with
HRDA (ECCV 2022) and MIC (CVPR 2023) on top, or on a foundation model (VFM-UDA, 2024).

python launch.py --config=configs/daformer.py                        # streets, minutes on two cores
python launch.py --config=configs/daformer.py:gta5_cityscapes             # published: 68.3 mIoU
python launch.py --config=configs/daformer.py:gta5_cityscapes+hrda        # published: 73.8 mIoU
python launch.py --config=configs/daformer.py:gta5_cityscapes+hrda+mic    # published: 75.9 mIoU
python launch.py --config=configs/daformer.py:gta5_cityscapes+vfm         # published: 77.1 mIoU

Published mIoU of all pairs (target validation images; ACDC and Dark Zurich: the test servers'):

preset                        DAFormer  +hrda  +mic  +hrda+mic
gta5_cityscapes                   68.3   73.8  70.6       75.9
synthia_cityscapes (16)           60.9   65.8  62.2       67.3
cityscapes_acdc                   55.4   68.0     -       70.4
cityscapes_darkzurich             53.8   55.9     -       60.2
urbansyn_cityscapes                  -      -     -          -

The papers' presets need the ImageNet weights of MiT-B5: --config.init.backbone=mit_b5.pth; `+vfm`
those of DINOv2: dinov2_vitb14_pretrain.pth (published from GTA5: 77.1, with dinov2_vitl14 78.4).
"""

from configs import common, self_training


def get_config(preset: str = "streets"):
    """See `common.PRESETS` and `self_training.MODIFIERS`; there is no `vgg16`."""
    config = self_training.experiment("daformer", preset)
    small = self_training.small(preset)
    if small:
        config.data.rare_classes.update(dict(temperature=0.1, min_pixels=50, crop_pixels=0))
    else:
        self_training.transformer(config)
    config.method = common.method(
        "daformer",
        segmentation_weights=self_training.levels(config),
        target_weight=1.0,
        decay=0.95 if small else 0.999,  # of the teacher's average
        threshold=0.9 if small else 0.968,
        margins=self_training.margins(config),
        jitter=0.2,
        jitter_probability=0.8,
        blur_probability=0.5,
        per_image=False,
        colours="torchvision" if small else "kornia",  # what the factors do to colours
        feature_distance=0.005,  # weight; 0 for none
        things=self_training.THINGS,  # names of the classes that the distance is taken on
        over_all=self_training.reference(preset),
        of_teacher=small,
        mirrored=False,  # labels also by the mirrored image (VFM-UDA)
        **common.rarity(config),
        pseudo_weighted=0.0,  # share of the loss of pseudo labels that weighs classes likewise
    )
    return self_training.finish(config, preset)

"""CBST: class-balanced self-training (Zou et al., ECCV 2018), with labels made as they are needed.

python launch.py --config=configs/cbst.py                     # streets, minutes on two cores
python launch.py --config=configs/cbst.py:gta5_cityscapes     # published: 46.5 mIoU (in rounds)
"""

from configs import common, self_training


def get_config(preset: str = "streets"):
    """See `common.PRESETS` and `self_training.MODIFIERS`; there is no `vgg16`."""
    config = self_training.experiment("cbst", preset)
    small = self_training.small(preset)
    if not small:
        # What a shrunken image leaves empty is no pixel to label, which margins of the whole image
        # tell. The papers begin with a network that has learnt the source: hence the warm-up.
        for side in (config.augment.source, config.augment.target):
            side.update(dict(crop=(512, 1024), scale=(0.5, 1.5)))
        config.train.warmup_steps = 20_000
    config.method = common.method(
        "cbst",
        segmentation_weights=self_training.levels(config),
        target_weight=1.0,
        portion=0.2,  # of the pixels of each class, surest first, at the beginning
        portion_last=0.5,  # and after so many steps:
        portion_steps=300 if small else 20_000,
        forget=0.02,  # what a new batch weighs in the histograms of confidences
        decay=0.95 if small else 0.99,  # of the teacher's average
        margins=(0.0, 0.0) if small else (0.0, 0.0, 0.0, 0.0),
        over_all=self_training.reference(preset),
        of_teacher=small,
        **common.rarity(config),
        pseudo_weighted=0.0,  # share of the loss of pseudo labels that weighs classes likewise
    )
    return self_training.finish(config, preset)

"""DACS: self-training on images mixed across domains (Tranheden et al., WACV 2021).

python launch.py --config=configs/dacs.py                     # streets, minutes on two cores
python launch.py --config=configs/dacs.py:gta5_cityscapes     # published: 52.1 mIoU
python launch.py --config=configs/dacs.py:synthia_cityscapes  # published: 48.3 mIoU (16 classes)

`+mic` adds masked image consistency to any preset, `+hrda` a network at two scales to the embedded
ones. No number is published for urbansyn_cityscapes, cityscapes_acdc and cityscapes_darkzurich.
"""

from configs import common, self_training


def get_config(preset: str = "streets"):
    """See `common.PRESETS` and `self_training.MODIFIERS`; there is no `vgg16`."""
    config = self_training.experiment("dacs", preset)
    small = self_training.small(preset)
    if not small:  # the paper mirrors nothing
        config.augment.source.flip = config.augment.target.flip = 0.0
        config.net.aux = False  # one head
    if self_training.reference(preset):  # sums two of four rates, BatchNorm's affine stays
        config.net.update(dict(summed=2, norm="reference"))
    config.method = common.method(
        "dacs",
        segmentation_weights=self_training.levels(config),
        target_weight=1.0,  # of the loss on mixed images
        decay=0.95 if small else 0.99,  # of the teacher's average
        threshold=0.9 if small else 0.968,  # of the probability of a sure pseudo label
        margins=(0.0, 0.0),  # (top, bottom) shares of the height without pseudo labels
        jitter=0.25,  # of the mixed images' colours
        jitter_probability=0.8,
        blur_probability=0.5,
        colours="torchvision" if small else "kornia",  # what the factors do to colours
        per_image=not self_training.reference(preset),  # or one draw for the batch
        ignored=self_training.reference(preset),  # pastes unlabelled pixels as well
        over_all=self_training.reference(preset),  # divides losses by all pixels
        of_teacher=small,  # evaluates the teacher, whose statistics are the target's
        **common.rarity(config),
        pseudo_weighted=0.0,  # share of the loss of pseudo labels that weighs classes likewise
    )
    return self_training.finish(config, preset)

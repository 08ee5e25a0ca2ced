"""FCNs in the Wild (Hoffman et al., 2016): features aligned place by place, class sizes held.

python launch.py --config=configs/fcns_in_the_wild.py                    # streets
python launch.py --config=configs/fcns_in_the_wild.py:gta5_cityscapes    # published: 27.1 mIoU

The published presets use the paper's network, the dilated front-end on VGG-16, and `+vgg16` the
one of AdaptSegNet. The authors published no code and not every weight: the weights of the two terms
here are ours.
"""

from configs import common, embedded


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("fcns_in_the_wild", preset, family="")
    base, modifiers = common.parse(preset)
    config.net.aux = False
    config.disc.architecture = "pixel"
    if not embedded.small(base) and "vgg16" not in modifiers:
        config.net.backbone = "vgg16_frontend"
        config.net.rates = ()  # its classifier is a 1x1 convolution
        config.net.stride_in = None  # of ResNets
        config.optim.gen.head_multiplier = 1.0
    config.method = common.method(
        "fcns_in_the_wild",
        segmentation_weights={"main": 1.0},
        adversarial_weight=common.weights(preset, 10.0, features=1e-3)["features"],
        constraint_weight=0.1,
        confusion="flipped",  # or "both": the domain loss and its flipped version, halved
        percentiles=(10.0, 90.0),
        present_fraction=0.1,
        large_share=0.1,  # classes that seldom cover less, such as road, ...
        large_weight=0.1,  # ... are held to their size more loosely
        remembered=512,  # source images the percentiles are over
        **common.rarity(config),
    )
    return config.lock()

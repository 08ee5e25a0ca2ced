"""GIO-Ada (Chen et al., CVPR 2019): images transformed with the help of labels and depth, and
segmentation and depth aligned together.

python launch.py --config=configs/gio_ada.py                        # streets, minutes on two cores
python launch.py --config=configs/gio_ada.py:streets_camvid         # on CamVid's photographs
python launch.py --config=configs/gio_ada.py:virtual_kitti_kitti
python launch.py --config=configs/gio_ada.py:synthia_cityscapes

A preset may carry modifiers, as in `streets+output`. Parts of the method, for ablations:
  task    the task network alone, without depth
  depth   with depth, nothing adapted
  input   depth and the transformed images, with their discriminator
  output  depth and the discriminator of outputs
and `vgg16`, DeepLabV2 on VGG-16 with a depth head, as in the paper (a small VGG on embedded pairs);
`scratch`, on the embedded pairs: a small DeepLabV3+ at 96x192 without pretrained weights.
"""

from configs import common, embedded, geometry, settings

PARTS = {  # modifier: (depth, input level, output level)
    "task": (False, False, False),
    "depth": (True, False, False),
    "input": (True, True, False),
    "output": (True, False, True),
}
MODIFIERS = (*PARTS, "scratch", "vgg16")


def get_config(preset: str = "streets"):
    """See `geometry.PRESETS`."""
    config = geometry.experiment("gio_ada", preset, MODIFIERS)
    base, modifiers = geometry.parse(preset, MODIFIERS)
    chosen = [name for name in PARTS if name in modifiers]
    if len(chosen) > 1:
        raise ValueError(f"{chosen[0]} and {chosen[1]} are different ablations: choose one")
    small = embedded.small(base)
    pretrained = bool(config.init.backbone)
    if "vgg16" not in modifiers and not pretrained:
        config.net.architecture = "deeplabv3plus"
        config.net.stride_in = "3x3"  # torchvision's ResNets
        config.net.preprocess = "imagenet"
        config.net.rates = (2, 4, 6) if small else (6, 12, 18)
        config.net.summed = None  # of DeepLabV2
        config.net.low_level = 16 if small else 48
        config.net.output_stride = 8 if small else 16
        config.net.dropout = 0.1 if small else 0.5
    for player in ("gen", "disc"):
        # Steps of the whole cycle: the discriminators begin after the warm-up.
        steps = config.train.get_ref("steps")
        steps = steps - config.train.get_ref("warmup_steps") if player == "disc" else steps * 1
        config.optim[player].update(
            dict(
                optimiser="adam",
                schedule="one_cycle",
                betas=(0.9, 0.999),
                high_momentum=0.95,
                weight_decay=0.0,
                clip=5.0 if small and player == "gen" else 0.0,
            )
        )
        config.optim[player].schedule_steps = steps
    config.optim.gen.head_multiplier = 1.0
    config.optim.gen.translator_multiplier = 0.1 if small else 1.0
    # No rates were published; these are ours.
    config.optim.gen.lr = (1e-3 if pretrained else 2e-3) if small else 1e-4
    config.optim.disc.lr = 1e-3 if small else 1e-4
    if small:  # kernels begin by He, but for pretrained ones; the transform network as the identity
        config.translator = settings.translator(width=8, blocks=2, kernel=5, init_std=0.0)
        if not pretrained:
            config.train.update(dict(steps=800, warmup_steps=300, eval_every=100))
        # The networks' rate is past its top when the discriminators begin.
        config.optim.disc.warm = 0.05
    else:  # all but the pretrained backbone begins as N(0, 0.001)
        config.translator = settings.translator()
        config.net.init_std = 1e-3
        config.disc.init_std = 1e-3
        config.net.norm = "train"  # of the pooled image a batch of one has no statistics
        config.train.update(dict(batch=2, steps=90_000, eval_every=2000))
    depth, on_input, on_output = PARTS.get(chosen[0], ()) if chosen else (True, True, True)
    config.net.depth = depth
    config.method = common.method(
        "gio_ada",
        segmentation_weights={"main": 1.0},
        # No weights were published either. 0 leaves a part out, with its networks.
        lam_input=0.1 * on_input,
        lam_output=1e-3 * on_output,
        lam_depth=0.1 * depth,
        depth_loss="l1",  # or berhu
        depth_encoding="inverse",  # near / metres; or linear, log
        depth_near=1.0,  # metres
        depth_far=80.0,
        guides=("label", "depth"),  # what the image transform network is helped by
        lam_identity=0.3 if small else 0.0,  # of the change of the image
        # Whether the task's losses train the transform network, as the recipe has it. On streets it
        # may paint every class in a colour of its own; see docs/design.md.
        task_gradient=not small,
        gan="vanilla",
        # Against discriminators that win or collapse; all off, as the recipe has none of them.
        smooth=0.0,  # what the discriminators' label of real things is less than 1
        r1=0.0,  # weight of R1
        r1_every=1,  # computed in every so many steps
        pool=0,  # earlier transformed images that are shown again
        ramp_steps=0,  # over which lam_input and lam_output grow, for the networks
        ema=0.0,  # decay of the task network's average, which is evaluated instead
        **common.rarity(config),
    )
    return config.lock()

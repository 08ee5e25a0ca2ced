"""What `cyclegan` and `cycada` share: data, networks of both kinds, optimisers and schedules."""

from ml_collections import ConfigDict

from configs import common, embedded, settings


def experiment(name: str, preset: str, lam_semantic: float, lam_output: float) -> ConfigDict:
    """An experiment of jaxseg/methods/cyclegan.py.

    Args:
      name: of the experiment; with the preset it names the run (`cyclegan_streets`).
      preset: one of common.PRESETS, with modifiers.
      lam_semantic, lam_output: weights of what CyCADA adds.

    Raises:
      ValueError: unknown preset or modifier.
    """
    config = common.experiment(name, preset, family="")
    small = embedded.small(preset)
    config.net.aux = False
    config.net.statistics = "target"
    config.disc.init_std = 0.02
    # Adam as CycleGAN has it for all networks: the rate stays for half of the training and then
    # falls to 0. On the embedded pairs the segmenter has a rate of its own.
    shared = dict(
        optimiser="adam", betas=(0.5, 0.999), lr=2e-4, schedule="linear", hold=0.5,
        weight_decay=0.0, clip=0.0,
    )  # fmt: skip
    for player in ("gen", "disc"):
        config.optim[player].update(shared)
    config.optim.gen.head_multiplier = 1.0
    if small:
        config.translator = settings.cycle_translator(width=16, blocks=3, disc_width=16)
        config.optim.gen.groups = ((r"^segmenter/", dict(rate=5.0)),)
        if config.init.backbone:
            pretrained = (r"^segmenter/.*backbone/", dict(rate=5 / 3))
            config.optim.gen.groups = (pretrained, *config.optim.gen.groups)
        config.train.update(dict(batch=2, steps=900, warmup_steps=300, eval_every=150))
    else:
        config.translator = settings.cycle_translator()
        config.optim.gen.groups = ((r"^segmenter/", dict(rate=0.5)),)
        for side in ("source", "target"):
            config.augment[side].update(dict(flip=0.5, crop=(400, 400)))
        config.net.norm = "reference"
        config.train.update(dict(batch=1, steps=120_000, warmup_steps=20_000, eval_every=5000))
    config.method = common.method(
        "cyclegan",
        segmentation_weights={"main": 1.0},
        lam_cycle=10.0,
        lam_identity=0.5,  # times lam_cycle
        pool=50,  # translated images of each domain that the discriminators see again
        gan="ls",
        lam_semantic=lam_semantic,  # of the frozen source segmenter's opinion
        lam_output=lam_output,  # of the discriminator of the segmenter's outputs
        **common.rarity(config),
    )
    return config

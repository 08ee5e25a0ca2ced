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
    # Translators and discriminators begin after the warm-up, with Adam as CycleGAN has it: the rate
    # stays for half of their steps and then falls to 0. The segmenter has the preset's optimiser.
    played = config.train.get_ref("steps") - config.train.get_ref("warmup_steps")
    config.optim.disc.update(
        dict(
            optimiser="adam", betas=(0.5, 0.999), lr=2e-4, schedule="linear", hold=0.5,
            weight_decay=0.0, clip=0.0,
        )
    )  # fmt: skip
    config.optim.translator = config.optim.disc.copy_and_resolve_references()
    for player in ("translator", "disc"):
        config.optim[player].schedule_steps = played * 1
    if small:
        common.plain_colours(config)  # jitter and noise would be translated, and have to come back
        # In 600 steps the paper's generator, which draws images anew, learns blurred ones; that of
        # GIO-Ada begins with the image as it is and puts out a change of it (docs/results.md).
        own = dict(architecture="gio_ada", width=16, blocks=3, disc_width=16)
        config.translator = settings.cycle_translator(**own)
        config.train.update(dict(batch=2, steps=900, warmup_steps=300, eval_every=150))
    else:
        config.translator = settings.cycle_translator()
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
        # What is done to the images that the segmenter learns from.
        jitter=0.25 if small and config.init.backbone else 0.0,  # of their colours
        jitter_probability=0.8,
        blur_probability=0.5 if small and config.init.backbone else 0.0,
        lam_semantic=lam_semantic,  # of the frozen source segmenter's opinion
        lam_output=lam_output,  # of the discriminator of the segmenter's outputs
        **common.rarity(config),
    )
    return config

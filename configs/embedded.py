"""The embedded pairs: streets that are rendered when they are first needed, and photographs.

With the ImageNet weights of EfficientNet-Lite0, which a package of its own installs, hundreds of
steps are enough to see something; `scratch` trains a small network without them, for tests and for
comparison.
"""

from ml_collections import ConfigDict

from configs.settings import (
    augmentation,
    discriminator,
    optimisers,
    pretrained_network,
    small_network,
)


def pair(config: ConfigDict, base: str, scratch: bool) -> None:
    """Fills in data, network, optimisers and schedule.

    Args:
      config: as `common.experiment` begins it.
      base: streets, streets_camvid or streets_folder.
      scratch: whether the network begins without pretrained weights.
    """
    _network(config, scratch)
    size = (96, 192) if scratch else (128, 256)
    config.data.source = _rendered("rendered", size)
    config.data.target = _rendered("photographic", size)
    if base == "streets_camvid":
        size = (120, 160) if scratch else (192, 256)
        config.data.classes = "camvid"
        config.data.source = _rendered(_for_photographs(config, scratch), size)
        config.data.target = ConfigDict(
            dict(name="camvid", split="train", val_split="val", size=size, options=ConfigDict())
        )
        if scratch:
            config.train.update(dict(steps=500, warmup_steps=250, eval_every=125))
    if base == "streets_folder":
        config.data.source.options.domain = _for_photographs(config, scratch)
        config.data.target.update(dict(name="folder"))
        config.data.target.options = _folder()


def _for_photographs(config, scratch) -> str:
    """The look of a source for photographs; with it, longer training and rare classes for networks
    that see. Chosen on a part of CamVid's training photographs.
    """
    if scratch:
        return "rendered_varied"
    config.train.update(dict(steps=400, warmup_steps=100, eval_every=100))
    config.data.rare_classes.update(dict(temperature=0.1, min_pixels=50, crop_pixels=0))
    return "photographic_varied"


def _network(config, scratch):
    config.train.update(dict(batch=4, log_every=25, pictures=6))
    config.eval.batch = 10
    config.disc = discriminator(width=16)
    flipped = dict(flip=0.5)
    config.augment = ConfigDict(
        dict(source=augmentation(**flipped), target=augmentation(**flipped))
    )
    if scratch:
        config.net = small_network()
        # In hundreds of steps: rates far above the papers', who fine-tune for 10^5 steps.
        config.optim = optimisers(gen_lr=0.1, head=1.0, disc_lr=1e-3, schedule_steps=0)
        config.optim.gen.clip = 5.0
        config.train.update(dict(steps=700, warmup_steps=350, eval_every=70))
        return
    config.net = pretrained_network()
    config.init.backbone = "efficientnet_lite0"
    # Domain randomisation: what the source's colours and film say is not to be relied on.
    config.augment.source.update(dict(jitter=0.4, hue=0.05, blur=0.5, noise=15.0))
    config.optim = optimisers(gen_lr=1e-3, head=1.0, disc_lr=1e-3, schedule_steps=0)
    config.optim.gen.update(
        dict(
            optimiser="adam",
            schedule="cosine",
            weight_decay=0.0,
            groups=((r"/backbone/", dict(rate=1 / 3)),),
        )
    )
    config.train.update(dict(steps=210, warmup_steps=70, eval_every=70))


def _rendered(domain, size):
    counts = ConfigDict(dict(train=400, val=100))
    options = ConfigDict(dict(domain=domain, seed=0, counts=counts))
    return ConfigDict(
        dict(name="streets", split="train", val_split="val", size=size, options=options)
    )


def _folder():
    """See jaxseg/data/builders/folder.py; labels, if there are any, are for scores."""
    return ConfigDict(
        dict(
            images="photos",
            labels="",
            classes="",
            label_values="auto",
            image_suffix="",
            label_suffix="",
            val_percent=10.0,
            split_seed=0,
        )
    )

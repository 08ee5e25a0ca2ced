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


def small(preset: str) -> bool:
    """Whether a preset is trained for hundreds of steps on small images, as all here are."""
    return preset.startswith(("streets", "folders"))


def pair(config: ConfigDict, base: str, scratch: bool) -> None:
    """Fills in data, network, optimisers and schedule.

    Args:
      config: as `common.experiment` begins it.
      base: streets, streets_camvid, streets_folder or folders.
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
        config.data.target.options = folder(images="photos")
    if base == "folders":
        _folders(config, (96, 128) if scratch else (160, 224))


def _for_photographs(config, scratch) -> str:
    """The look of a source for photographs, and the schedule of a network that sees, both chosen on
    a part of CamVid's training photographs: self-training gained most from more than 400 steps.
    """
    if scratch:
        return "rendered_varied"
    config.train.update(dict(steps=800, warmup_steps=200, eval_every=200))
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
    # Rare classes are drawn more often, and weigh more (`common.rarity`): in so few steps people,
    # poles and signs are not learnt otherwise.
    config.data.rare_classes.update(dict(temperature=0.1, min_pixels=50, crop_pixels=0))
    config.train.update(dict(steps=480, warmup_steps=160, eval_every=160))


def _rendered(domain, size):
    counts = ConfigDict(dict(train=400, val=100))
    options = ConfigDict(dict(domain=domain, seed=0, counts=counts))
    return ConfigDict(
        dict(name="streets", split="train", val_split="val", size=size, options=options)
    )


def _folders(config, size):
    """DIR/source/{images,labels}, DIR/target/images, DIR/target_val/{images,labels} if there are,
    DIR/classes.txt; DIR is data.root.
    """
    config.data.classes = config.data.get_ref("root") + "/classes.txt"
    classes = config.data.get_ref("classes")
    own = dict(classes=classes, own_classes="auto", class_map="auto", val_images="auto")
    source = folder(images="source/images", labels="source/labels", **own)
    target = folder(images="target/images", partly_labelled=True, **own)
    split = dict(name="folder", split="train", val_split="val", size=size)
    config.data.source = ConfigDict(split | dict(options=source))
    config.data.target = ConfigDict(split | dict(options=target))
    config.train.update(dict(steps=420, warmup_steps=140, eval_every=70))


def folder(**given) -> ConfigDict:
    """See jaxseg/data/builders/folder.py; labels of a target, if there are any, are for scores."""
    settings = dict(
        images="",
        labels="",
        classes="",
        own_classes="",  # class file of these labels, where it differs
        class_map="",  # which of the learnt classes they are
        label_values="auto",  # index, colour
        image_prefix="",
        image_suffix="",
        label_prefix="",
        label_suffix="",
        val_images="",  # folders of the validation images and their labels
        val_labels="auto",
        partly_labelled=False,  # images without labels train, those with one validate
        val_percent=10.0,
        split_seed=0,
        keep_proportions=True,  # cropped instead of squashed to `size`
    )
    return ConfigDict(settings | given)

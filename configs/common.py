"""What the experiments share: data pairs, networks, optimisers and schedules.

A preset names a pair of data sets together with the scale at which it is trained:
  streets               rendered -> photographic, embedded, minutes on a laptop (the default)
  streets_camvid        rendered streets -> CamVid photographs, 11 classes
  streets_folder        rendered streets -> your own unlabelled photographs, data.root/photos
  folders               your own labelled images -> your own unlabelled photographs
  gta5_cityscapes       GTA5 -> Cityscapes, DeepLabV2 ResNet-101, 19 classes (the papers)
  synthia_cityscapes    SYNTHIA-RAND-CITYSCAPES -> Cityscapes, 16 classes (the papers)
  urbansyn_cityscapes   UrbanSyn -> Cityscapes, 19 classes (VFM-UDA++)
  cityscapes_crosscity  Cityscapes -> a city of Cross-City (NTHU), 13 classes (AdaptSegNet)
  cityscapes_acdc       Cityscapes -> ACDC: fog, night, rain and snow, 19 classes (DAFormer)
  cityscapes_darkzurich Cityscapes -> Dark Zurich by night, 19 classes (DAFormer)

Modifiers follow after a plus sign, as in `gta5_cityscapes+vgg16`:
  pretrained  on the embedded pairs (`streets...`) and `folders` a feature pyramid on
             EfficientNet-Lite0 with ImageNet weights: what they do anyway
  scratch    there a small network without pretrained weights, on smaller images
  vgg16      the VGG-16 of the papers instead of ResNet-101 (on the embedded pairs a small VGG,
             trained from scratch)
  reference  what the released code does, its quirks included; docs/methods.md lists them.
             `reference` alone stands for `gta5_cityscapes+reference`.

Sizes are (height, width). Only ml_collections is imported: a config loads in milliseconds.
"""

from ml_collections import ConfigDict

from configs import defaults, embedded
from configs.settings import augmentation, discriminator, optimisers, paper_network

PRESETS = (
    "streets",
    "streets_camvid",
    "streets_folder",
    "folders",
    "gta5_cityscapes",
    "synthia_cityscapes",
    "urbansyn_cityscapes",
    "cityscapes_crosscity",
    "cityscapes_acdc",
    "cityscapes_darkzurich",
)
MODIFIERS = ("pretrained", "scratch", "vgg16", "reference")
SELF_TRAINING = " (hrda and mic are of dacs, daformer and cbst)"
# Whose released code a method comes from: the step at which it stops on GTA5, how often it saves,
# and how many of the four rates of its heads it sums (0 for all).
FAMILIES = {
    "advent": dict(steps=120_000, every=2000, summed=0),
    "adaptsegnet": dict(steps=150_000, every=5000, summed=2),
}


def parse(preset: str) -> tuple[str, tuple[str, ...]]:
    """`gta5_cityscapes+vgg16` as ('gta5_cityscapes', ('vgg16',)).

    Raises:
      ValueError: unknown preset or modifier.
    """
    base, *modifiers = preset.split("+")
    if base == "reference":
        base, modifiers = "gta5_cityscapes", ["reference", *modifiers]
    if base not in PRESETS:
        raise ValueError(f"unknown preset {base!r}; choose one of {', '.join(PRESETS)}")
    if unknown := [m for m in modifiers if m not in MODIFIERS]:
        elsewhere = "; any other config takes --config.mic.weight=1" if unknown[0] == "mic" else ""
        raise ValueError(
            f"unknown modifier {unknown[0]!r}; choose one of {', '.join(MODIFIERS)}"
            + (SELF_TRAINING + elsewhere if unknown[0] in ("hrda", "mic") else "")
        )
    return base, tuple(m for m in MODIFIERS if m in modifiers)


def experiment(method: str, preset: str, family: str = "advent") -> ConfigDict:
    """The base of every config: one preset's data, network, optimisers and schedule.

    Args:
      method: name of the experiment; with the preset it names the run (`advent_streets`).
      preset: one of PRESETS, with modifiers.
      family: whose schedule and quirks it has, one of FAMILIES; '' if no code was released.

    Raises:
      ValueError: unknown preset or modifier, or no reference to reproduce.
    """
    base, modifiers = parse(preset)
    chosen = [m for m in ("pretrained", "scratch") if m in modifiers]
    if chosen and not embedded.small(base):
        raise ValueError(f"{chosen[0]!r} is for the embedded pairs, not for {base}: leave it out")
    if len(chosen) == 2 or ("pretrained" in chosen and "vgg16" in modifiers):
        raise ValueError(
            f"{chosen[0]!r} and {'vgg16' if len(chosen) < 2 else chosen[1]!r}: choose one"
        )
    if "reference" in modifiers and (not family or embedded.small(base)):
        what = f"the preset {base}" if family else method
        raise ValueError(f"there is no released code of {what} to reproduce: leave out 'reference'")
    config = defaults.experiment("_".join((method, base, *modifiers)))
    if embedded.small(base):
        scratch = bool({"scratch", "vgg16"} & set(modifiers))
        embedded.pair(config, base, scratch)
    else:
        _papers(config)
        facts = FAMILIES[family or "advent"]
        config.train.update(dict(steps=facts["steps"], eval_every=facts["every"]))
        _published_pair(config, base)
    if not embedded.small(base):  # there the defaults do better (docs/results.md)
        config.mic.update(dict(block=hidden_block(config), colours="kornia"))
    for player in ("gen", "disc"):  # follows --config.train.steps unless given a length of its own
        config.optim[player].schedule_steps = config.train.get_ref("steps") * 1
    if "vgg16" in modifiers:
        _vgg16(config, base)
    if "reference" in modifiers:
        _reference(config, FAMILIES[family]["summed"])
    return config


def _vgg16(config, base):
    small = embedded.small(base)
    config.net.backbone = "vgg_small" if small else "vgg16"
    if small:
        config.optim.gen.clip = 1.0  # it has no BatchNorm
    config.net.stride_in = None  # of ResNets
    config.net.aux = False  # one head
    config.optim.gen.head_multiplier = 1.0  # one group of parameters


def _reference(config, summed):
    """What the released code does (RECIPES of AdaptSegNet and ADVENT)."""
    config.net.summed = summed
    config.optim.gen.repeat_backbone = config.net.backbone == "resnet101"
    config.net.statistics = "both"
    for player in ("gen", "disc"):
        config.optim[player].schedule_steps = 250_000
    if config.data.source.split == "train_rest":  # everything is trained on
        config.data.source.update(dict(split="train", val_split=""))


def _published_pair(config, base):
    """The data of a pair of published sets; the target is Cityscapes unless it says otherwise."""
    if base == "gta5_cityscapes":
        config.data.source = _published("gta5", (720, 1280), "train_rest", "val")
    if base == "synthia_cityscapes":
        config.data.source = _published("synthia", (760, 1280), "train_rest", "val")
        config.data.classes = "synthia16"
        config.eval.also = ("synthia13",)
        config.train.steps = 90_000
    if base == "urbansyn_cityscapes":
        config.data.source = _published("urbansyn", (512, 1024), "train_rest", "val")
    if base.startswith("cityscapes_"):
        config.data.source = _published("cityscapes", (512, 1024), "train", "val")
    if base == "cityscapes_acdc":
        config.data.target = _published("acdc", (540, 960), "train", "val")
        config.data.target.options.condition = ""  # all, or fog, night, rain, snow
    if base == "cityscapes_darkzurich":
        config.data.target = _published("dark_zurich", (540, 960), "train", "val")
        config.data.target.options.time = "night"  # of the training images
    if base == "cityscapes_crosscity":
        config.data.target = _published("crosscity", (512, 1024), "train", "val")
        config.data.target.options.city = "Rome"  # or Rio, Taipei, Tokyo
        config.data.classes = "crosscity13"


def _published(name, size, split, val_split=""):
    return ConfigDict(
        dict(name=name, split=split, val_split=val_split, size=size, options=ConfigDict())
    )


def _papers(config):
    """The papers' setting without the quirks of their code; `_reference` brings them back."""
    size = (512, 1024)
    config.data.target = ConfigDict(
        dict(name="cityscapes", split="train", val_split="val", size=size, options=ConfigDict())
    )
    config.data.threads = 8
    config.net = paper_network()
    config.disc = discriminator(width=64)
    config.augment = ConfigDict(dict(source=augmentation(), target=augmentation()))
    config.optim = optimisers(gen_lr=2.5e-4, head=10.0, disc_lr=1e-4, schedule_steps=0)
    config.train.update(dict(batch=1, log_every=100))
    config.eval.batch = 1


def learn_target(config: ConfigDict) -> None:
    """Makes the target's own training labels what is learnt; overrides of the target's follow.

    Of an own pair (`folders`) those are in DIR/target/labels, for some or all of DIR/target/images.
    """
    target = config.data.target
    options = target.get_ref("options")
    if target.name == "folder" and target.options.partly_labelled:
        own = dict(labels="target/labels", partly_labelled=False, only_labelled=True)
        same = [key for key in target.options if key not in own]
        options = ConfigDict({key: target.options.get_ref(key) for key in same} | own)
    config.data.source = ConfigDict(
        dict(
            name=target.name,
            split="train",
            val_split="",  # it would be what the target is evaluated on
            size=target.get_ref("size"),
            options=options,
        )
    )


def plain_colours(config: ConfigDict) -> None:
    """Source images in their own colours: with many labels of the target, or to be translated."""
    config.augment.source.update(dict(jitter=0.0, hue=0.0, blur=0.0, noise=0.0))


def hidden_block(config: ConfigDict) -> int:
    """Side in pixels of what MIC hides: a sixteenth of the image or crop, as in its paper."""
    crop = config.augment.target.crop or config.data.target.size
    return max(8, crop[0] // 16)


def weights(preset: str, factor: float, **levels: float) -> dict[str, float]:
    """The papers' weights of the target loss by level, times `factor` on the embedded pairs.

    The embedded pairs are trained for hundreds of steps instead of 10^5, with a loss that counts
    from the start; the factors were found on training runs with seed 0.
    """
    scale = factor if embedded.small(preset) else 1.0
    return {level: scale * value for level, value in levels.items()}


def rarity(config: ConfigDict) -> dict[str, object]:
    """Settings of methods/parts/classes: half of the source's loss weighs classes by how rare they
    are, for the pretrained networks of the embedded pairs. Chosen on a part of CamVid's training
    images, and taken over for the other pairs.
    """
    if config.init.backbone:
        return dict(weighted=0.5, class_weights=("median",))
    return dict(weighted=0.0, class_weights=())


def class_prior(preset: str) -> dict[str, float]:
    """ADVENT's class-ratio prior: mu is the paper's; it gives no weight, so that is ours."""
    return {"weight": weights(preset, 10.0, prior=1e-1)["prior"], "mu": 0.5}


def method(name: str, **settings) -> ConfigDict:
    """Name of a file in jaxseg/methods and the settings of its `make`; dicts become ConfigDicts."""
    as_config = {k: ConfigDict(v) if isinstance(v, dict) else v for k, v in settings.items()}
    return ConfigDict(dict(name=name, settings=ConfigDict(as_config)))

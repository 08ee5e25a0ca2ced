"""What `baseline` and `fcn` share: labelled data, trained on one split and scored on another.

A preset names the data:
  streets               photographic streets, embedded, minutes on a laptop (the default)
  camvid                CamVid, train -> val, at 192x256 (`fcn` and `+scratch`: 120x160)
  minicity              MiniCity, the 200 + 100 images of the VIPriors challenge (`baseline` only)
  folder                a user's own images and labels, at their own size (`baseline` only); see
                        `own_data`
  synthia_rand_cvpr16   SYNTHIA-RAND-CVPR16 as folders of RGB files (`fcn` only)

As in the adaptation experiments `data.source` is what is learnt and `data.target` what it is scored
on; here both are one data set, and share its size and options.
"""

from ml_collections import ConfigDict

from configs import common, embedded


def experiment(
    name: str, preset: str, presets: tuple[str, ...], modifiers=(), scratch: bool = False
) -> ConfigDict:
    """The data, optimiser and schedule of a supervised experiment; the network follows.

    Args:
      name: of the experiment; with the preset it names the run (`baseline_camvid`).
      preset: one of `presets`; one of `modifiers` may follow after a plus sign.
      presets, modifiers: what the experiment has. `folder` is trained like the embedded pairs, or
        with a modifier that starts with 'resnet' like the published data.
      scratch: whether the embedded pairs begin without pretrained weights, as `+scratch` asks for.

    Raises:
      ValueError: unknown preset or modifier.
    """
    base, *given = preset.split("+")
    for kind, known, found in (("preset", presets, [base]), ("modifier", modifiers, given)):
        if unknown := [x for x in found if x not in known]:
            choices = f"choose one of {', '.join(known)}" if known else f"{name} has none"
            raise ValueError(f"unknown {kind} {unknown[0]!r}; {choices}")
    pairs = {"streets": "streets", "camvid": "streets_camvid"}
    chosen = [m for m in ("pretrained", "scratch") if m in given]
    if chosen and base not in pairs:
        raise ValueError(f"{chosen[0]!r} is for {' and '.join(pairs)}, not for {base}")
    scratch = scratch or "scratch" in given
    light = base in pairs or (base == "folder" and not any("resnet" in m for m in given))
    pair = pairs.get(base, "streets_camvid") if light else "gta5_cityscapes"
    how = ("+scratch" if scratch else "+pretrained") if light else ""
    config = common.experiment(name, pair + how)
    config.name = "_".join((name, base, *given))
    if base not in pairs:
        data = dict(name=base, split="train", val_split="val", size=(1024, 2048))
        config.data.target = ConfigDict(data | dict(options=ConfigDict()))
        config.data.threads = 2 if light else 8
    if base in ("folder", "synthia_rand_cvpr16"):
        own_data(config)
    if base == "folder":
        config.data.target.size = ()  # the images' own, see jaxseg/experiment/sizes.py
        config.eval.batch = 4
    common.learn_target(config)
    config.net.statistics = "source"
    config.net.aux = False
    config.net.norm = "train"
    config.train.warmup_steps = 0
    if light and not scratch:
        common.plain_colours(config)
    return config


def own_data(config: ConfigDict) -> None:
    """The options of jaxseg/data/builders/folder.py.

    The class file, `data.classes`, names the classes that are learnt and what the labels hold. The
    paths of images and labels begin at data.root, that of the class file there too, unless there is
    one where the program runs.
    """
    config.data.classes = "classes.txt"
    config.data.target.name = "folder"
    config.data.target.options = embedded.folder(
        images="images",  # '{split}' in it stands for the split; or it holds folders train, val
        labels="labels",
        classes=config.data.get_ref("classes"),
    )


def method(copy_pairs: tuple[tuple[str, str], ...], **losses: float) -> ConfigDict:
    """The settings of jaxseg/methods/supervised.py, all losses and mixes off but those given."""
    names = ("cross_entropy", "weighted", "focal", "ohem", "dice", "lovasz")
    return common.method(
        "supervised",
        segmentation_weights={"main": 1.0, "aux": 0.4},
        losses=dict.fromkeys(names, 0.0) | losses,
        class_weights=(),  # of 'weighted': one a class, or inverse, or median (from the labels)
        focal_gamma=2.0,
        ohem_threshold=0.7,
        ohem_minimum=1 / 16,
        mixes=dict(cutmix=0.0, classmix=0.0, copy_blob=0.0),  # probabilities
        copy_pairs=copy_pairs,  # of copy_blob: (what is copied, what it is put on)
    )


# Rare things and where they may stand: MiniCity's of the tutorial, the same idea in CamVid.
STREET_PAIRS = (("wall", "sidewalk"), ("fence", "sidewalk"), ("bus", "road"), ("train", "road"))
CAMVID_PAIRS = (
    *(("Fence", "Pavement"), ("SignSymbol", "Pavement"), ("Pedestrian", "Pavement")),
    ("Bicyclist", "Road"),
)
PAIRS = {"streets": STREET_PAIRS, "minicity": STREET_PAIRS, "camvid": CAMVID_PAIRS}

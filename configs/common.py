"""What the experiments share: data pairs, networks, optimisers and schedules.

A preset names a pair of data sets together with the scale at which it is trained:
  streets             rendered -> photographic, embedded, minutes on a laptop (the default)
  streets_camvid      rendered streets -> CamVid photographs, 11 classes
  gta5_cityscapes     GTA5 -> Cityscapes, DeepLabV2 ResNet-101, 19 classes (the papers)
  synthia_cityscapes  SYNTHIA-RAND-CITYSCAPES -> Cityscapes, 16 classes (the papers)

Sizes are (height, width). Only ml_collections is imported: a config loads in milliseconds.
"""

from ml_collections import ConfigDict

PRESETS = ("streets", "streets_camvid", "gta5_cityscapes", "synthia_cityscapes")


def experiment(method: str, preset: str) -> ConfigDict:
    """The base of every config: one preset's data, network, optimisers and schedule.

    Args:
      method: name of the experiment; with the preset it names the run (`advent_streets`).
      preset: one of PRESETS.

    Raises:
      ValueError: unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    config = ConfigDict()
    config.name = f"{method}_{preset}"
    config.seed = 0
    config.compile_cache = True  # keep compiled programs in the user's cache folder
    # Initial weights of the segmenter: a .npz, .safetensors or .pth file. `excused` are regular
    # expressions for tensors that may be left over or missing; () excuses the classifier and heads.
    config.init = ConfigDict(dict(backbone="", excused=()))
    config.data = ConfigDict(
        dict(
            root="data",  # folder of the published files: data/gta5, data/cityscapes, ...
            records="",  # folder of the prepared records; empty: the user's cache folder
            classes="cityscapes",  # class set that is learnt and scored
            store_resized=True,  # prepare training images at training size (10x faster to read)
            threads=2,
        )
    )
    config.train = ConfigDict(
        dict(
            batch=1,  # images of each domain a step, over all devices
            accumulate=1,  # micro-batches a step
            steps=0,  # where training stops; the schedule's length is optim.*.schedule_steps
            warmup_steps=0,  # first steps on the source alone
            log_every=50,
            eval_every=0,  # 0: after the warm-up and at the end only
            save_every=0,  # 0: with every evaluation
            devices=0,  # 0: as many local devices as the batch can be shared by
            keep=2,  # checkpoints kept beside the best
            pictures=6,  # validation images shown in the report
        )
    )
    # classes: a class set whose names are scored alone, e.g. synthia13; empty for all.
    config.eval = ConfigDict(dict(batch=1, classes=""))
    {"streets": _streets, "streets_camvid": _streets_camvid}.get(preset, _papers)(config)
    if preset == "gta5_cityscapes":
        config.data.source = _published("gta5", (720, 1280), "train")
    if preset == "synthia_cityscapes":
        config.data.source = _published("synthia", (760, 1280), "train")
        config.data.classes = "synthia16"
        config.optim.gen.schedule_steps = 250_000
        config.train.steps = 90_000
    return config


def _rendered(size, count):
    options = ConfigDict(dict(domain="rendered", seed=0, counts=ConfigDict(dict(train=count))))
    return ConfigDict(dict(name="streets", split="train", size=size, options=options))


def _published(name, size, split):
    return ConfigDict(dict(name=name, split=split, size=size, options=ConfigDict()))


def _streets(config):
    size = (96, 192)
    config.data.source = _rendered(size, 400)
    counts = ConfigDict(dict(train=400, val=100))
    options = ConfigDict(dict(domain="photographic", seed=0, counts=counts))
    config.data.target = ConfigDict(
        dict(name="streets", split="train", val_split="val", size=size, options=options)
    )
    config.net = _small_network()
    config.disc = ConfigDict(dict(width=16, dtype="float32"))
    config.augment = ConfigDict(
        dict(
            source=ConfigDict(dict(flip=0.5, scale=(), crop=(), jitter=0.0)),
            target=ConfigDict(dict(flip=0.5, scale=(), crop=(), jitter=0.0)),
        )
    )
    # From scratch in hundreds of steps: rates far above the papers', who fine-tune for 10^5 steps.
    config.optim = _optimisers(gen_lr=0.1, head=1.0, disc_lr=1e-3, schedule_steps=700)
    config.optim.gen.clip = 5.0
    config.train.update(
        dict(batch=4, steps=700, warmup_steps=350, log_every=25, eval_every=175, pictures=6)
    )
    for player in ("gen", "disc"):  # follows --config.train.steps unless given a length of its own
        config.optim[player].schedule_steps = config.train.get_ref("steps") * 1
    config.eval.batch = 10


def _streets_camvid(config):
    _streets(config)
    size = (120, 160)
    config.data.classes = "camvid"
    config.data.source.size = size
    config.data.source.options.domain = "rendered_varied"
    config.data.target = ConfigDict(
        dict(name="camvid", split="train", val_split="val", size=size, options=ConfigDict())
    )
    config.train.update(dict(steps=500, warmup_steps=250, eval_every=125))


def _papers(config):
    """RECIPES of AdaptSegNet and ADVENT, corrected: 250k-step schedule, stop at 120k."""
    size = (512, 1024)
    config.data.target = ConfigDict(
        dict(name="cityscapes", split="train", val_split="val", size=size, options=ConfigDict())
    )
    config.data.threads = 8
    config.net = ConfigDict(
        dict(
            backbone="resnet101",
            rates=(6, 12, 18, 24),
            summed=0,  # how many rates are summed, 0 for all; AdaptSegNet's released code sums 2
            stride_in="1x1",  # where a block strides: "1x1" as Caffe, "3x3" as torchvision
            aux=True,
            norm="reference",
            statistics="both",
            preprocess="caffe",  # BGR minus the ImageNet mean
            dtype="float32",
        )
    )
    config.disc = ConfigDict(dict(width=64, dtype="float32"))
    config.augment = ConfigDict(dict(source=_no_augmentation(), target=_no_augmentation()))
    config.optim = _optimisers(gen_lr=2.5e-4, head=10.0, disc_lr=1e-4, schedule_steps=250_000)
    config.train.update(dict(batch=1, steps=120_000, log_every=100, eval_every=2000))
    config.eval.batch = 1


def _no_augmentation():
    return ConfigDict(dict(flip=0.0, scale=(), crop=(), jitter=0.0))


def _small_network():
    return ConfigDict(
        dict(
            backbone="small",
            rates=(1, 3, 6, 9),
            summed=0,
            stride_in="1x1",
            aux=True,
            norm="train",
            statistics="target",
            preprocess="imagenet",
            dtype="float32",
        )
    )


def _optimisers(gen_lr, head, disc_lr, schedule_steps):
    gen = dict(
        lr=gen_lr,
        power=0.9,
        schedule_steps=schedule_steps,
        momentum=0.9,
        weight_decay=5e-4,
        head_multiplier=head,
        clip=0.0,
    )
    disc = dict(lr=disc_lr, power=0.9, schedule_steps=schedule_steps, betas=(0.9, 0.99))
    return ConfigDict(dict(gen=ConfigDict(gen), disc=ConfigDict(disc)))


def weights(preset: str, factor: float, **levels: float) -> dict[str, float]:
    """The papers' weights of the target loss by level, times `factor` on the embedded pairs.

    `streets` is trained for hundreds of steps instead of 10^5, with a loss that counts from the
    start; the factors were found on its training runs with seed 0.
    """
    scale = factor if preset.startswith("streets") else 1.0
    return {level: scale * value for level, value in levels.items()}


def method(name: str, **settings) -> ConfigDict:
    """Name of a file in jaxseg/methods and the settings of its `make`; dicts become ConfigDicts."""
    as_config = {k: ConfigDict(v) if isinstance(v, dict) else v for k, v in settings.items()}
    return ConfigDict(dict(name=name, settings=ConfigDict(as_config)))

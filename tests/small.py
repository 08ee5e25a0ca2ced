"""Experiments shrunk until a test can run them: the real loop on tiny images and a tiny network."""

import importlib

from jaxseg.models import resnet

SIZE = (32, 64)


def shrink_networks(monkeypatch):
    """Every backbone keeps its name and structure but gets one thin block a stage."""
    tiny = resnet.Sizes((1, 1, 1, 1), widths=(4, 4, 4, 4), stem=8)
    for name in list(resnet.SIZES):
        monkeypatch.setitem(resnet.SIZES, name, tiny)


def small_config(name, records, preset="streets"):
    """`configs/<name>.py` with few tiny images, a thin discriminator and four steps."""
    config = importlib.import_module(f"configs.{name}").get_config(preset)
    config.data.records = str(records)
    config.data.threads = 1
    config.disc.width = 4
    for side in (config.data.source, config.data.target):
        side.size = SIZE
    if preset == "streets":
        config.data.source.options.counts.train = 6
        config.data.target.options.counts.train = 6
        config.data.target.options.counts.val = 3
    config.train.update(
        dict(batch=2, steps=4, warmup_steps=2, log_every=1, eval_every=2, pictures=2)
    )
    config.optim.gen.schedule_steps = config.optim.disc.schedule_steps = 8
    config.eval.batch = 2
    return config

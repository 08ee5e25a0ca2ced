"""Supervised training on the source alone, evaluated on the target: the baseline of every table.

python launch.py --config=configs/source_only.py                    # streets
python launch.py --config=configs/source_only.py:gta5_cityscapes    # published: 36.6 mIoU
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("source_only", preset)
    config.net.statistics = "source"
    config.method = common.method(
        "source_only", segmentation_weights={"main": 1.0, "aux": 0.1}, **common.rarity(config)
    )
    return config.lock()

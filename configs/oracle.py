"""The upper bound of every table: the same network trained on the target's own labels.

python launch.py --config=configs/oracle.py                    # streets
python launch.py --config=configs/oracle.py:gta5_cityscapes    # published: 65.1 mIoU
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("oracle", preset)
    common.learn_target(config)
    common.plain_colours(config)
    config.net.statistics = "source"
    config.method = common.method(
        "source_only", segmentation_weights={"main": 1.0, "aux": 0.1}, **common.rarity(config)
    )
    return config.lock()

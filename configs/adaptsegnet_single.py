"""AdaptSegNet (Tsai et al., CVPR 2018), single level.

python launch.py --config=configs/adaptsegnet_single.py                    # streets
python launch.py --config=configs/adaptsegnet_single.py:gta5_cityscapes    # published: 41.4 mIoU
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("adaptsegnet_single", preset, family="adaptsegnet")
    config.net.aux = False
    config.method = common.method(
        "adaptsegnet",
        segmentation_weights={"main": 1.0},
        adversarial_weights=common.weights(preset, 10.0, main=1e-3),
        gan="vanilla",
        **common.rarity(config),
    )
    return config.lock()

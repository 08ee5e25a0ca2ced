"""AdaptSegNet's baseline that aligns the last feature map instead of the output.

python launch.py --config=configs/adaptsegnet_features.py                    # streets
python launch.py --config=configs/adaptsegnet_features.py:gta5_cityscapes    # paper: 39.3
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("adaptsegnet_features", preset, family="adaptsegnet")
    config.net.aux = False
    config.disc.architecture = "pixel"  # feature maps are small: one decision for each place
    config.method = common.method(
        "adaptsegnet",
        segmentation_weights={"main": 1.0},
        adversarial_weights=common.weights(preset, 10.0, features=1e-3),
        gan="vanilla",
        **common.rarity(config),
    )
    return config.lock()

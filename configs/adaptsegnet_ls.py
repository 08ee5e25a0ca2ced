"""AdaptSegNet with the least-squares loss of LS-GAN, single level, as its authors released later.

python launch.py --config=configs/adaptsegnet_ls.py                    # streets
python launch.py --config=configs/adaptsegnet_ls.py:gta5_cityscapes    # published: 44.1
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("adaptsegnet_ls", preset, family="adaptsegnet")
    config.net.aux = False
    config.method = common.method(
        "adaptsegnet",
        segmentation_weights={"main": 1.0},
        adversarial_weights=common.weights(preset, 10.0, main=1e-2),
        gan="ls",
        **common.rarity(config),
    )
    return config.lock()

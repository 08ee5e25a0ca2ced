"""AdaptSegNet (Tsai et al., CVPR 2018), multi-level; `single` levels in adaptsegnet_single.py.

python launch.py --config=configs/adaptsegnet.py                    # streets
python launch.py --config=configs/adaptsegnet.py:gta5_cityscapes    # published: 42.4 mIoU
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("adaptsegnet", preset, family="adaptsegnet")
    config.method = common.method(
        "adaptsegnet",
        segmentation_weights={"main": 1.0, "aux": 0.1},
        adversarial_weights=common.weights(preset, 10.0, main=1e-3, aux=2e-4),
        gan="vanilla",
        **common.rarity(config),
    )
    return config.lock()

"""MinEnt (Vu et al., CVPR 2019): direct entropy minimisation on the target.

python launch.py --config=configs/minent.py                     # streets, minutes on two cores
python launch.py --config=configs/minent.py:gta5_cityscapes     # published: 42.3 mIoU
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("minent", preset)
    config.method = common.method(
        "minent",
        segmentation_weights={"main": 1.0, "aux": 0.1},
        entropy_weights=common.weights(preset, 100.0, main=1e-3, aux=2e-4),
        **common.rarity(config),
    )
    return config.lock()

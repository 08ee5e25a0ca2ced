"""MinEnt on entropy ranges (ER): only the 30 % of pixels of highest entropy (Vu et al., CVPR 2019).

python launch.py --config=configs/minent_er.py                     # streets
python launch.py --config=configs/minent_er.py:gta5_cityscapes     # published: 43.1
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("minent_er", preset)
    config.method = common.method(
        "minent",
        segmentation_weights={"main": 1.0, "aux": 0.1},
        entropy_weights=common.weights(preset, 30.0, main=1e-3, aux=2e-4),
        hardest_share=0.3,
        **common.rarity(config),
    )
    return config.lock()

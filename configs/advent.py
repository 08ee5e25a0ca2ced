"""AdvEnt (Vu et al., CVPR 2019), multi-level.

python launch.py --config=configs/advent.py                     # streets, minutes on two cores
python launch.py --config=configs/advent.py:gta5_cityscapes     # published: 43.8 mIoU
python launch.py --config=configs/advent.py:synthia_cityscapes  # published: 40.8 mIoU (16 classes)
python launch.py --config=configs/advent.py:cityscapes_acdc     # 32.7, Dark Zurich 29.7: DAFormer's
                                                                # table, the test servers'
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("advent", preset)
    config.method = common.method(
        "advent",
        segmentation_weights={"main": 1.0, "aux": 0.1},
        adversarial_weights=common.weights(preset, 10.0, main=1e-3, aux=2e-4),
        gan="vanilla",
        **common.rarity(config),
    )
    return config.lock()

"""AdvEnt with the class-ratio prior (Vu et al., CVPR 2019, section 3.3).

python launch.py --config=configs/advent_prior.py                        # streets
python launch.py --config=configs/advent_prior.py:synthia_cityscapes     # the paper's use of it
"""

from configs import common


def get_config(preset: str = "streets"):
    """See `common.PRESETS`."""
    config = common.experiment("advent_prior", preset)
    config.method = common.method(
        "advent",
        segmentation_weights={"main": 1.0, "aux": 0.1},
        adversarial_weights=common.weights(preset, 10.0, main=1e-3, aux=2e-4),
        gan="vanilla",
        class_prior=common.class_prior(preset),
        **common.rarity(config),
    )
    return config.lock()

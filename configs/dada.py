"""DADA: depth-aware domain adaptation (Vu et al., ICCV 2019).

python launch.py --config=configs/dada.py                       # streets, minutes on two cores
python launch.py --config=configs/dada.py:streets_camvid        # on CamVid's photographs
python launch.py --config=configs/dada.py:synthia_cityscapes    # published: 42.6 mIoU (16 classes)
python launch.py --config=configs/dada.py:virtual_kitti_kitti

`streets+scratch` begins without pretrained weights; `synthia_cityscapes+reference` does what the
released code does, see docs/methods.md.
"""

from configs import common, embedded, geometry

MODIFIERS = ("reference", "scratch")


def get_config(preset: str = "streets"):
    """See `geometry.PRESETS`."""
    config = geometry.experiment("dada", preset, MODIFIERS)
    base, modifiers = geometry.parse(preset, MODIFIERS)
    if "reference" in modifiers and base != "synthia_cityscapes":
        raise ValueError(f"there is no released code of the preset {base}: leave out 'reference'")
    small = embedded.small(base)
    config.net.fusion = True
    for player in ("gen", "disc"):  # its code stops where the schedule does
        config.optim[player].schedule_steps = config.train.get_ref("steps") * 1
    config.method = common.method(
        "dada",
        segmentation_weights={"main": 1.0},
        adversarial_weights=common.weights(preset, 10.0, main=1e-3),
        lam_depth=0.02 if small else 1e-3,
        depth_loss="berhu",
        depth_encoding="inverse",
        depth_near=1.0,  # metres; what is nearer is taken to be there
        depth_far=80.0 if small else 655.36,  # of what is told as depth; SYNTHIA's farthest
        # The network's units: the released code regresses 65536 / (centimetres + 1).
        depth_scale=10.0 if small else 655.36,
        gan="vanilla",
        **common.rarity(config),
    )
    return config.lock()

"""Groups of settings that presets are put together from: augmentation, networks, optimisers."""

from ml_collections import ConfigDict


def augmentation(**given) -> ConfigDict:
    """The settings of one side's augmentation, all off but those given."""
    settings = dict(
        flip=0.0,  # probability of mirroring
        scale=(),  # (low, high) of a random factor of the size
        crop=(),  # (height, width); empty for the size of the data
        crop_cap=0.0,  # most that one class may cover of a crop, e.g. 0.75; 0 for no limit
        crop_tries=10,
        jitter=0.0,  # brightness, contrast and saturation at once, 0.3 is U(0.7, 1.3)
        brightness=0.0,  # or each by itself
        contrast=0.0,
        saturation=0.0,
        hue=0.0,  # 0.3 is U(-0.3, 0.3) of the colour circle
        blur=0.0,  # probability
        blur_sigma=(0.15, 1.15),
    )
    return ConfigDict(settings | given)


def paper_network() -> ConfigDict:
    """DeepLabV2 on ResNet-101, as AdaptSegNet and ADVENT have it."""
    return ConfigDict(
        dict(
            architecture="deeplabv2",
            backbone="resnet101",
            rates=(6, 12, 18, 24),
            summed=0,  # how many rates are summed, 0 for all; AdaptSegNet's released code sums 2
            stride_in="1x1",  # where a block strides: "1x1" as Caffe, "3x3" as torchvision
            output_stride=8,  # of DeepLabV3; of FCN the finest that is fused
            dropout=0.5,  # of DeepLabV3 and FCN
            aux=True,
            norm="reference",
            statistics="target",  # whose batches move BatchNorm's running statistics
            preprocess="caffe",  # BGR minus the ImageNet mean
            dtype="float32",
        )
    )


def small_network() -> ConfigDict:
    """The same for images of 96x192 on two cores."""
    return ConfigDict(
        dict(
            architecture="deeplabv2",
            backbone="small",
            rates=(1, 3, 6, 9),
            summed=0,
            stride_in="1x1",
            output_stride=8,
            dropout=0.5,
            aux=True,
            norm="train",
            statistics="target",
            preprocess="imagenet",
            dtype="float32",
        )
    )


def optimisers(gen_lr: float, head: float, disc_lr: float, schedule_steps: int) -> ConfigDict:
    """SGD of the segmenter (its heads at `head` times the rate) and Adam of the discriminators."""
    gen = dict(
        lr=gen_lr,
        schedule="poly",  # or cosine
        power=0.9,  # of poly; 0 for a rate that stays
        schedule_steps=schedule_steps,
        momentum=0.9,
        weight_decay=5e-4,
        head_multiplier=head,
        clip=0.0,
        repeat_backbone=False,  # the references' optimiser steps 3 or 4 times with these
    )
    disc = dict(lr=disc_lr, power=0.9, schedule_steps=schedule_steps, betas=(0.9, 0.99))
    return ConfigDict(dict(gen=ConfigDict(gen), disc=ConfigDict(disc)))

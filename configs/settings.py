"""Groups of settings that presets are put together from: augmentation, networks, optimisers."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


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
        noise=0.0,  # highest deviation of Gaussian noise, in grey levels
        # The look of a random target image, for the source only; see jaxseg/data/style.py.
        lab=0.0,  # probability of its mean and covariance of colours
        histogram=0.0,  # probability of its histograms
        fda=0.0,  # its lowest frequencies: width of the band, 0.01 to 0.09 in the paper
    )
    return ConfigDict(settings | given)


def network(architecture: str, backbone: str, **given) -> ConfigDict:
    """A segmenter; what is not given is off, or left to the architecture."""
    settings = dict(
        architecture=architecture,  # a file in jaxseg/models/segmenters
        backbone=backbone,  # a name in one of the files in jaxseg/models/backbones
        norm="train",
        statistics="target",  # whose batches move BatchNorm's running statistics
        preprocess="imagenet",  # or caffe: BGR minus the ImageNet mean
        dtype="float32",
        init_std=0.0,  # of all kernels but the backbone's; 0 for the architecture's own
        aux=False,  # an auxiliary head
        depth=False,  # a depth head (DeepLabV2, DeepLabV3+, FPN)
        fusion=False,  # which gates the features of the classifier (DADA; DeepLabV2, FPN)
        remat=False,  # computes each block again in the backward pass: less memory, more time
    )
    own = dict(
        rates=tuple,  # dilation rates, of DeepLab
        summed=int,  # how many rates are summed, 0 for all; AdaptSegNet's released code sums 2
        output_stride=int,  # of DeepLabV3 and V3+, 8 or 16; of FCN the finest that is fused
        channels=int,  # of FPN's pyramid, and of the stages in SegFormer's and DAFormer's heads
        context=str,  # of DAFormer: sepaspp, aspp or conv1
        embed=str,  # of SegFormer: linear, or conv with norm and ReLU (mmsegmentation)
        drop_path=float,  # rate of a transformer's last block
        hrda=tuple,  # a window (height, width): the network at two scales (HRDA)
        low_level=int,  # channels of the first stage in DeepLabV3+'s decoder
        dropout=float,  # of DeepLabV3, V3+, FCN, SegFormer, DAFormer and FPN
        aux_dropout=float,  # in FPN's auxiliary head
        stride_in=str,  # where a ResNet's block strides: "1x1" as Caffe, "3x3" as torchvision
    )
    net = ConfigDict({**settings, **{key: placeholder(kind) for key, kind in own.items()}})
    net.update(given)
    return net


def paper_network() -> ConfigDict:
    """DeepLabV2 on ResNet-101, as AdaptSegNet and ADVENT have it."""
    return network(
        "deeplabv2",
        "resnet101",
        rates=(6, 12, 18, 24),
        summed=0,
        stride_in="1x1",
        aux=True,
        norm="reference",
        preprocess="caffe",
    )


def small_network() -> ConfigDict:
    """The same for images of 96x192 on two cores."""
    return network("deeplabv2", "small", rates=(1, 3, 6, 9), summed=0, stride_in="1x1", aux=True)


def pretrained_network() -> ConfigDict:
    """A feature pyramid on EfficientNet-Lite0, whose ImageNet weights come with a package."""
    return network("fpn", "efficientnet_lite0", aux=True)


def discriminator(width: int) -> ConfigDict:
    """The networks that tell the domains apart: AdaptSegNet's and ADVENT's has width 64."""
    return ConfigDict(
        dict(
            architecture="patch",  # or pixel, for feature maps
            width=width,
            dtype="float32",
            spectral=False,  # spectral normalisation
            init_std=0.0,  # of the kernels, with biases 0; 0 for PyTorch's default
        )
    )


def translator(**given) -> ConfigDict:
    """GIO-Ada's image transform network at the scale of published data, but for those given."""
    settings = dict(
        width=64,  # channels at full size; at a quarter of it four times as many
        blocks=9,  # residual blocks
        kernel=7,  # side of the first and last convolution
        residual=True,  # puts out a change of the image instead of an image
        init_std=1e-3,  # of all kernels; 0 begins as exactly the identity
        dtype="float32",
    )
    return ConfigDict(settings | given)


def cycle_translator(**given) -> ConfigDict:
    """CycleGAN's networks at the scale of the paper, but for those given."""
    settings = dict(
        architecture="cyclegan",  # or gio_ada: GIO-Ada's network without guides
        width=64,  # channels at full size; at a quarter of it four times as many
        blocks=9,  # residual blocks
        disc_width=64,  # of the discriminators of images
        disc_layers=3,  # of stride 2: 3 judge patches of 70x70 pixels, 2 of 34x34, 1 of 16x16
        dtype="float32",
    )
    return ConfigDict(settings | given)


def optimisers(gen_lr: float, head: float, disc_lr: float, schedule_steps: int) -> ConfigDict:
    """SGD of the segmenter (its heads at `head` times the rate) and Adam of the discriminators.

    Any optimiser of optax can take their place, by its name there:
    --config.optim.gen.optimiser=adamw --config.optim.gen.settings="eps=1e-7 nesterov=True".
    Groups of parameters are pairs of a regular expression, found in paths like
    segmenter/main_head/bias, and factors; for each factor the first group that matches and gives
    it wins: --config.optim.gen.groups="(('backbone', {'rate': 0}), ('bias$', {'decay': 0}))".
    """
    shared = dict(
        schedule="poly",  # or linear, cosine, one_cycle, constant
        power=0.9,  # of poly; 0 for a rate that stays
        schedule_steps=schedule_steps,
        hold=0.0,  # of linear: share of the steps in which the rate stays
        warm=0.3,  # of one_cycle: share of the steps in which the rate rises
        high_momentum=0.0,  # of one_cycle with Adam: beta1 where the rate is low, betas[0] where it
        # is highest; 0 leaves it alone
        warmup_steps=0,  # first steps, in which the schedule is multiplied by a factor that rises
        warmup_start=1e-6,  # from this to 1
        settings="",  # more of what the optimiser takes, as "eps=1e-7 nesterov=True"
        groups=(),  # (expression, {'rate': factor, 'decay': factor}), ...; a rate of 0 freezes
        momentum=0.9,  # of sgd
        clip=0.0,  # largest norm of the gradient, 0 for no limit
    )
    gen = dict(
        optimiser="sgd",  # or adam, both as in PyTorch, or an optimiser of optax
        lr=gen_lr,  # the highest there is
        betas=(0.9, 0.999),  # b1 and b2 of adam and of what else has both; () for optax's own
        weight_decay=5e-4,
        head_multiplier=head,
        repeat_backbone=False,  # the references' optimiser steps 3 or 4 times with these
    )
    disc = dict(optimiser="adam", lr=disc_lr, betas=(0.9, 0.99), weight_decay=0.0)
    return ConfigDict(dict(gen=ConfigDict(shared | gen), disc=ConfigDict(shared | disc)))


# Groups of parameters that are usually left without weight decay.
NO_DECAY_OF_NORMS = (r"norm\w*/(scale|bias)$", dict(decay=0.0))
NO_DECAY_OF_NORMS_AND_BIASES = (r"/(scale|bias)$", dict(decay=0.0))


def layer_wise(decay: float, layers: list[str]) -> tuple:
    """Groups whose rate falls from the output to the input (ELECTRA; BEiT, Bao et al., ICLR 2022).

    layer_wise(0.9, [r"/(patch_embed|pos_embed)", *(rf"/block{i}/" for i in range(12))]) gives the
    last block 0.9 times the rate, the first 0.9^12, the embeddings 0.9^13, all else the full rate.

    Args:
      decay: what one layer further from the output multiplies the rate by.
      layers: regular expressions of the layers, from the input on.
    """
    return tuple((name, dict(rate=decay ** (len(layers) - i))) for i, name in enumerate(layers))

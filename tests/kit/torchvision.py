"""Shapes of torchvision's tensors."""


def torchvision_shapes(blocks, num_classes=21):
    """{name: shape} of torchvision's DeepLabV3 with both heads, from its published layers."""
    found = {}

    def layer(conv, bn, out, into, side):
        found[f"{conv}.weight"] = (out, into, side, side)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"{bn}.{leaf}"] = (out,)

    layer("backbone.conv1", "backbone.bn1", 64, 3, 7)
    into = 64
    for stage, (number, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=1):
        for block in range(number):
            name = f"backbone.layer{stage}.{block}"
            layer(f"{name}.conv1", f"{name}.bn1", width, into, 1)
            layer(f"{name}.conv2", f"{name}.bn2", width, width, 3)
            layer(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1)
            if block == 0:
                layer(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, into, 1)
            into = 4 * width
    for branch, side in enumerate((1, 3, 3, 3)):
        name = f"classifier.0.convs.{branch}"
        layer(f"{name}.0", f"{name}.1", 256, 2048, side)
    layer("classifier.0.convs.4.1", "classifier.0.convs.4.2", 256, 2048, 1)
    layer("classifier.0.project.0", "classifier.0.project.1", 256, 5 * 256, 1)
    layer("classifier.1", "classifier.2", 256, 256, 3)
    layer("aux_classifier.0", "aux_classifier.1", 256, 1024, 3)
    for head in ("classifier", "aux_classifier"):
        found[f"{head}.4.weight"] = (num_classes, 256, 1, 1)
        found[f"{head}.4.bias"] = (num_classes,)
    return found

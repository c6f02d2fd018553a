"""Cifarnet: a small network that reaches 94 % on CIFAR-10 in minutes (Jordan, 2024, arXiv 2404.00498)."""

from keras import layers

from zoo.layers import PatchWhitening
from zoo.layers.initializers import PartialIdentity


def whitened(images):
    """What every member of a cifarnet reads: fixed features of 2x2 patches."""
    x = PatchWhitening(name="whitening")(images)
    return layers.Activation("gelu", name="whitening_gelu")(x)


def cifarnet(method, images, stem=None):
    """Three stages of two convolutions with 64, 256 and 256 filters, each stage pooled by two.

    The network of airbench94: whitened patches, convolutions that start as partial identities,
    normalisations without a scale, GELU, and features divided by nine before the head.
    """
    x = images
    for stage, filters in enumerate((64, 256, 256)):
        x = method.begin_stage(stage, x) if stage else x
        for index in (1, 2):
            name = f"stage{stage + 1}_{index}"
            x = method.conv(
                filters, 3, "hidden" if stage or index > 1 else "stem", padding="same",
                use_bias=False, kernel_initializer=PartialIdentity(), name=f"{name}_conv",
            )(x)  # fmt: skip
            if index == 1:
                x = method.per_member(layers.MaxPooling2D(name=f"{name}_pool"))(x)
            x = method.norm(scale=False, momentum=0.6, epsilon=1e-5, name=f"{name}_norm")(x)
            x = method.per_member(layers.Activation("gelu", name=f"{name}_gelu"))(x)
    x = method.per_member(layers.GlobalMaxPooling2D(name="pool"))(x)
    return method.per_member(layers.Rescaling(1 / 9, name="scale"))(x)


cifarnet.preprocess = whitened

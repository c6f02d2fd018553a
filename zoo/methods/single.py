"""One ordinary network: the baseline, and the interface that every other method overrides."""

import dataclasses

import keras

from zoo.layers import BatchNormalization


@dataclasses.dataclass(frozen=True)
class Single:
    """A single network, an ensemble of one.

    A method makes the layers that a backbone asks for.  `role` tells what a layer is for: "stem"
    (first), "entry" (first of a residual block), "hidden", "shortcut" or "head" (last).  What flows
    between layers is the method's business, so a backbone also joins, activates and pools through
    `per_member`, and says by `begin_stage` where its stages begin.
    """

    name = "single"
    num_members = 1
    member_loss = "sum"

    def layer_factory(self, stages):
        """Who makes the layers of one network of so many stages.

        The method itself, unless it must keep track of how far that network has got.
        """
        return self

    def expand(self, images):
        """Images (B, H, W, C) to what the stem takes."""
        return images

    def begin_stage(self, stage, x):
        """What flows into a stage of the backbone: 1, 2, ... after the stem, and last "head"."""
        return x

    def conv(self, filters, kernel_size, role="hidden", **options):
        """A convolution; `options` are those of `keras.layers.Conv2D`."""
        return keras.layers.Conv2D(filters, kernel_size, **options)

    def depthwise_conv(self, kernel_size, role="hidden", **options):
        """A depthwise convolution; `options` are those of `keras.layers.DepthwiseConv2D`."""
        return keras.layers.DepthwiseConv2D(kernel_size, **options)

    def dense(self, units, role="hidden", **options):
        """A dense layer; `options` are those of `keras.layers.Dense`."""
        return keras.layers.Dense(units, **options)

    def norm(self, **options):
        """A batch normalisation."""
        return BatchNormalization(**options)

    def per_member(self, layer):
        """A layer without weights (activation, pooling, Flatten, Add), for what flows here."""
        return layer

    def finish(self, network):
        """What becomes of the whole network, a `keras.Model`."""
        return network

    def callbacks(self, images, labels):
        """Keras callbacks that training needs, given held-out images (N, H, W, C), N maybe 0, and labels.

        Each names in `variables` what a checkpoint must keep of it.
        """
        return []

    def members(self, logits):
        """What the head gives to member logits (B, M, K)."""
        return keras.layers.Reshape((1, logits.shape[-1]), name="members")(logits)

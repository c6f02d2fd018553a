"""The interface of methods: hooks that make the layers of a network, by default a single one."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from numpy.typing import ArrayLike

from zoo.array_types import LayerLike, Tensor
from zoo.layers import BatchNormalization


@dataclasses.dataclass(frozen=True)
class Method:
    """Base class of methods, whose hooks make the layers of one ordinary network.

    A method makes the layers that a backbone asks for. It chooses the representation between layers: one
    tensor, or a list with one tensor per member. So a backbone also adds, activates and pools through
    `per_member`, and calls `begin_stage` at the start of each stage. A method overrides the hooks below
    that differ from a single network's; all have defaults.

    Wherever a hook returns a layer, it may be a `keras.Layer` or a function from inputs to outputs, in
    that representation.

    Class attributes:
        name: str, the method's part of model names, such as "packed" in "packed_lenet".
        num_members: int >= 1, M. A dataclass field in methods with several members.
        member_loss: str, "sum" or "mean", how training combines the members' losses.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class WithoutNorms(zoo.methods.Method):
        ...     name = "without_norms"
        ...     def norm(self, **options):
        ...         return lambda x: x
        >>> zoo.build(WithoutNorms(), "resnet20").name
        'without_norms_resnet20'
    """

    name = ""
    num_members = 1
    member_loss = "sum"

    def layer_factory(self, stages: int) -> Method:
        """Return the factory of one network's layers; called once for each network, before `expand`.

        Args:
            stages: int, the number of stages that the backbone announces by `begin_stage`.

        Returns:
            An object with the hooks `expand`, `begin_stage`, `conv`, `depthwise_conv`, `dense`, `norm`,
            `per_member` and `members`. A stateless method is its own factory; a method with state per
            network returns a new one.

        Raises:
            ValueError: for arguments of the method that do not fit a backbone of so many stages.
        """
        return self

    def expand(self, images: Tensor) -> Any:
        """Turn the normalised images into what the stem takes.

        Args:
            images: symbolic tensor (B, H, W, C).

        Returns:
            The input of the backbone: a tensor or a list of tensors. The default is the images.
        """
        return images

    def begin_stage(self, stage: int | str, x: Any) -> Any:
        """Begin a stage of the backbone.

        Args:
            stage: int, 1, 2, ... for the stages after the stem, or "head" before the last layer.
            x: the features before the stage: a tensor or a list of tensors.

        Returns:
            The input of the stage; the default is x.
        """
        return x

    def conv(
        self, filters: int, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        """Make a two-dimensional convolution.

        Args:
            filters: int >= 1, output channels of the single network.
            kernel_size: int or two ints, in pixels.
            role: str, what the layer is for: "stem" (first layer), "entry" (first of a residual block),
                "hidden" or "shortcut". Default: "hidden".
            options: further arguments of `keras.layers.Conv2D`, such as strides, padding, use_bias and
                name.

        Returns:
            A `keras.Layer`, or a function from its input to its output.
        """
        return keras.layers.Conv2D(filters, kernel_size, **options)

    def depthwise_conv(
        self, kernel_size: int | tuple[int, int], role: str = "hidden", **options: Any
    ) -> LayerLike:
        """Make a depthwise convolution.

        Args:
            kernel_size: int or two ints, in pixels.
            role: str, what the layer is for, see `conv`. Default: "hidden".
            options: further arguments of `keras.layers.DepthwiseConv2D`, such as strides and name.

        Returns:
            A `keras.Layer`, or a function from its input to its output.
        """
        return keras.layers.DepthwiseConv2D(kernel_size, **options)

    def dense(self, units: int, role: str = "hidden", **options: Any) -> LayerLike:
        """Make a dense layer.

        Args:
            units: int >= 1, outputs of the single network; the number of classes for the head.
            role: str, "stem" (first layer), "hidden" or "head" (last layer). Default: "hidden".
            options: further arguments of `keras.layers.Dense`, such as kernel_initializer and name.

        Returns:
            A `keras.Layer`, or a function from its input to its output.
        """
        return keras.layers.Dense(units, **options)

    def norm(self, **options: Any) -> LayerLike:
        """Make a batch normalisation.

        Args:
            options: arguments of `keras.layers.BatchNormalization`, such as momentum, epsilon and name.

        Returns:
            A `keras.Layer`, or a function from its input to its output.
        """
        return BatchNormalization(**options)

    def per_member(self, layer: keras.Layer) -> LayerLike:
        """Adapt a layer without weights (activation, pooling, Flatten, Add) to the representation.

        Args:
            layer: a `keras.Layer` that takes one tensor of a single network, or a list of them (Add).

        Returns:
            A `keras.Layer`, or a function, that does the same for every member. The default is the
            layer.
        """
        return layer

    def finish(self, network: keras.Model) -> keras.Model:
        """Change the whole network once it is built.

        Args:
            network: a functional `keras.Model` from images (B, H, W, C) to member logits (B, M, K).

        Returns:
            A `keras.Model` of the same inputs and outputs; the default is the network.
        """
        return network

    def callbacks(self, images: ArrayLike, labels: ArrayLike) -> list[keras.callbacks.Callback]:
        """Make the Keras callbacks that training needs.

        Args:
            images: array (N, H, W, C), held-out images; N may be 0.
            labels: int array (N,), their labels.

        Returns:
            A list of callbacks, by default empty. Each lists in its attribute `variables` what a
            checkpoint must keep of it.

        Raises:
            ValueError: if the method needs held-out images and there are none.
        """
        return []

    def members(self, logits: Any) -> Tensor:
        """Turn the head's output into member logits.

        Args:
            logits: what the layer of role "head" returned.

        Returns:
            A symbolic tensor (B, M, K).
        """
        return keras.layers.Reshape((1, logits.shape[-1]), name="members")(logits)

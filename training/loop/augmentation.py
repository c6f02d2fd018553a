"""Standard augmentation, compiled into the training step and run on the network's device."""

from typing import Any

import keras
from keras import ops

from zoo.layers.replicas import draw_rows


@keras.saving.register_keras_serializable(package="zoo")
class RandomShiftFlip(keras.layers.Layer):
    """Pad images, crop them back at a random place, and mirror half of them.

    Args:
        shift: int, the most pixels that an image moves, each way. Default: 4.
        flip: bool, whether to mirror half of the images from left to right. Default: True.
        seed: int or None, the seed of the random draws. Default: None.
        padding: str, "zeros", or "reflect" for the mirrored border of the image. Default: "zeros".
        kwargs: further arguments of `keras.layers.Layer`.

    Input and output shape: (B, H, W, C).  Outside training images pass unchanged.

    Raises:
        ValueError: for an unknown padding.

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385.
    """

    def __init__(
        self,
        shift: int = 4,
        flip: bool = True,
        seed: int | None = None,
        padding: str = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if padding not in ("zeros", "reflect"):
            raise ValueError(f'padding must be "zeros" or "reflect"; got {padding!r}')
        self.shift, self.flip, self.seed, self.padding = shift, flip, seed, padding
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool | None = False) -> Any:
        if not training:
            return images
        batch, height, width = ops.shape(images)[0], images.shape[1], images.shape[2]
        rows = self._window(batch, height)
        columns = self._window(batch, width)
        if self.flip:
            mirrored = draw_rows(self._coins, batch) < 0.5
            columns = ops.where(mirrored, ops.flip(columns, axis=1), columns)
        border = ((0, 0), (self.shift,) * 2, (self.shift,) * 2, (0, 0))
        images = ops.pad(images, border, mode="reflect" if self.padding == "reflect" else "constant")
        images = ops.take_along_axis(images, rows[:, :, None, None], axis=1)
        return ops.take_along_axis(images, columns[:, None, :, None], axis=2)

    def _window(self, batch, size):
        return draw_rows(self._starts, batch) + ops.arange(size, dtype="int32")[None]

    def _starts(self, rows):
        return keras.random.randint((rows, 1), 0, 2 * self.shift + 1, seed=self.generator)

    def _coins(self, rows):
        return keras.random.uniform((rows, 1), seed=self.generator)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("shift", "flip", "seed", "padding")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="zoo")
class RandomCutout(keras.layers.Layer):
    """Blank a square at a random place in each training image.

    Args:
        size: int, pixels of a side; the part of a square beyond the border is cut off.
        value: float, the value of the blanked pixels. Default: 127.5.
        seed: int or None, the seed of the random draws. Default: None.
        kwargs: further arguments of `keras.layers.Layer`.

    Input and output shape: (B, H, W, C).  Outside training images pass unchanged.

    References:
        DeVries & Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017,
        arXiv 1708.04552.
    """

    def __init__(self, size: int, value: float = 127.5, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.size, self.value, self.seed = size, value, seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool | None = False) -> Any:
        if not training:
            return images
        rows = self._inside(images, 1)[:, :, None, None]
        columns = self._inside(images, 2)[:, None, :, None]
        return ops.where(rows & columns, ops.cast(self.value, images.dtype), images)

    def _inside(self, images, axis):
        """Which of the pixels along an axis lie in the square, (B, pixels)."""
        pixels = images.shape[axis]
        starts = draw_rows(lambda rows: self._starts(rows, pixels), ops.shape(images)[0])
        places = ops.arange(pixels, dtype="int32")[None]
        return (places >= starts) & (places < starts + self.size)

    def _starts(self, rows, pixels):
        lowest = -(self.size // 2)
        return keras.random.randint((rows, 1), lowest, pixels + lowest, seed=self.generator)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "value": self.value, "seed": self.seed}

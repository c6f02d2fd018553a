"""`EnsembleClassifier`: the `keras.Model` that makes fit, evaluate and predict right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo import fast_weights
from zoo.array_types import Tensor
from zoo.checked_training import ChecksInputs
from zoo.checks import check_batch, check_class_names, check_loss, check_size
from zoo.data.class_names import adopt, check_order, names_in
from zoo.data.resizing import check_resize, resized
from zoo.files.json_files import short
from zoo.fine_tuning import FineTuning
from zoo.keras_workarounds import TrainsUnderStrategies
from zoo.layers import keras_internals
from zoo.losses import label_distribution


def ensemble_log_probabilities(logits: Tensor) -> Tensor:
    """Return the log of the mean of the members' softmaxes.

    Args:
        logits: tensor (B, M, K).

    Returns:
        A float32 tensor (B, K), a normalised log-distribution in each row.
    """
    log_members = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    return ops.logsumexp(log_members, axis=1) - math.log(logits.shape[1])


def nan_where_not_finite(values: Tensor, images: Tensor) -> Tensor:
    """Return values that are NaN for every image with a NaN or infinite pixel.

    ReLU and pooling swallow NaN, so a network alone may answer such an image with finite logits. For
    other images the values are unchanged.

    Args:
        values: float tensor (B, ...).
        images: tensor (B, H, W, C); integers pass at no cost.

    Returns:
        A tensor of the shape of `values`.

    Example:
        >>> images = np.array([[[[1.0], [np.nan]]], [[[1.0], [2.0]]]])
        >>> values = zoo.classifier.nan_where_not_finite(np.ones((2, 3)), images)
        >>> np.isnan(values).all(axis=1).tolist()
        [True, False]
    """
    if "float" not in keras.backend.standardize_dtype(images.dtype):
        return values
    # One pass over the images; a mean of pixels is finite exactly where all of them are. A division by 1 or
    # by infinity / infinity is what every converter keeps (see `zoo.exporting.outputs`).
    mean = ops.mean(ops.cast(images, "float32"), axis=tuple(range(1, len(images.shape))))
    size = 1 + ops.abs(ops.reshape(mean, (-1,) + (1,) * (len(values.shape) - 1)))
    return values / ops.cast(size / size, values.dtype)


def _check_calibration(calibration, num_classes):
    if calibration is None:
        return
    if not isinstance(calibration, keras.Layer):
        raise ValueError(f"calibration must be a layer or None; got {short(calibration)}")
    shape = getattr(calibration(keras.KerasTensor((None, num_classes))), "shape", None)
    if shape != (None, num_classes):
        raise ValueError(
            f"calibration must map (B, {num_classes}) to (B, {num_classes}); it gives {shape}"
        )


@keras.saving.register_keras_serializable(package="zoo")
class EnsembleClassifier(ChecksInputs, TrainsUnderStrategies, FineTuning, keras.Model):
    """A classifier of M members that trains each of them and answers with their average.

    Called with `training=True` it returns member logits (B, M, K), or as many as the network gives in
    training (split batches: 1, MIMO: M * r). Otherwise it returns (B, K): the log of the mean of the
    members' softmaxes, which is a normalised log-distribution and so serves as logits, or that mean
    itself with `activation="softmax"`. An image with a NaN or infinite pixel is answered with NaN.

    `fit` takes plain labels. In training each member has a loss, averaged over the batch, and the sum
    over members is minimised (Lakshminarayanan et al., 2017). The value that `fit` shows is the mean
    over members, so that it can be compared with the validation loss. Metrics see the averaged
    prediction.

    Args:
        network: a `keras.Model` from images (B, H, W, C), uint8 or float in [0, 255], to member logits
            (B, M, K).
        activation: None, to answer with log-probabilities, or "softmax", for probabilities. Default:
            None.
        member_loss: str, "sum" over members, so that each trains as it would alone, or "mean". A network
            with more than one answer per member in training (MIMO's repetitions) has those averaged.
            Default: "sum".
        spec: dict, what `zoo.build` made the network from. Default: None, a network of your own.
        calibration: a layer from log-probabilities (B, K) to calibrated ones, applied to the average
            (see `zoo.calibrate`). Default: None.
        class_names: K strings, which `zoo.predict` answers with. Default: None; `fit` then takes those
            of a data set from `keras.utils.image_dataset_from_directory`.
        resize: str, how images of another size become (H, W), in training, prediction and exports alike:
            "crop", the largest middle part with the ratio of its sides, or "squash", the whole image.
            Default: None, other sizes are refused.
        kwargs: arguments of `keras.Model`, such as name.

    Raises:
        ValueError: for another activation, member_loss, spec or calibration, a network whose output is
            not (B, M, K), or labels out of range.

    Example:
        >>> images = keras.Input((8, 8, 1))
        >>> logits = keras.layers.Dense(2 * 3)(keras.layers.Flatten()(images))
        >>> network = keras.Model(images, keras.layers.Reshape((2, 3))(logits))
        >>> model = zoo.EnsembleClassifier(network, activation="softmax")
        >>> model.num_members, model.num_classes
        (2, 3)
        >>> model.compile("adam", zoo.losses.CrossEntropy(from_probabilities=True))
        >>> history = model.fit(np.zeros((4, 8, 8, 1)), np.array([0, 1, 2, 0]), verbose=0)
        >>> model.predict(np.zeros((4, 8, 8, 1)), verbose=0).shape
        (4, 3)
    """

    def __init__(
        self,
        network: keras.Model,
        activation: str | None = None,
        member_loss: str = "sum",
        spec: dict | None = None,
        calibration: keras.Layer | None = None,
        class_names: Sequence[str] | None = None,
        resize: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if activation not in (None, "softmax"):
            raise ValueError(f'activation must be None or "softmax"; got {activation!r}')
        if member_loss not in ("sum", "mean"):
            raise ValueError(f'member_loss must be "sum" or "mean"; got {member_loss!r}')
        if len(network.output_shape) != 3:
            raise ValueError(f"the network must give (B, M, K) logits; it gives {network.output_shape}")
        if not (spec is None or (isinstance(spec, dict) and isinstance(spec.get("method"), dict))):
            raise ValueError(f"spec must be None or a dict with a dict as its method; got {short(spec)}")
        _check_calibration(calibration, network.output_shape[2])
        self.network = network
        self.activation = activation
        self.member_loss = member_loss
        self.spec = spec
        self.calibration = calibration
        self.class_names = class_names
        self.names_from_weights = False
        self.resize = resize
        self.build((None, *network.input_shape[1:]))

    @property
    def num_members(self) -> int:
        """The number of members, M."""
        return self.network.output_shape[1]

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return self.network.output_shape[2]

    @property
    def input_shape(self) -> tuple:
        """The shape of the images with their batch axis, (None, H, W, C)."""
        return self.network.input_shape

    @property
    def class_names(self) -> list[str] | None:
        """The K names of the classes, or None; setting others is checked.

        Raises:
            ValueError: for another number of names, or a name twice or with control characters.
        """
        return self._class_names

    @class_names.setter
    def class_names(self, names: Sequence[str] | None) -> None:
        self._class_names = check_class_names(names, self.num_classes)

    @property
    def resize(self) -> str | None:
        """How images of another size become (H, W), "crop", "squash" or None; setting another is checked.

        Raises:
            ValueError: for anything else.
        """
        return self._resize

    @resize.setter
    def resize(self, way: str | None) -> None:
        self._resize = check_resize(way)

    def build(self, input_shape: Any) -> None:
        """Mark the model as built: its network is.

        Args:
            input_shape: the shape of a batch of images; not used.
        """
        self.built = True

    def call(self, images: Tensor, training: bool = False) -> Tensor:
        """Return member logits (B, M, K) in training, else the averaged answer (B, K).

        Args:
            images: tensor (B, H, W, C) in [0, 255].
            training: bool. Default: False.

        Returns:
            A float32 tensor.
        """
        logits = ops.cast(self.member_logits(images, training=training), "float32")
        return logits if training else self._answer(logits)

    def member_logits(self, images: Tensor, training: bool = False) -> Tensor:
        """Return the network's logits, all NaN for an image with a NaN or infinite pixel.

        Args:
            images: tensor (B, H, W, C) in [0, 255].
            training: bool. Default: False.

        Returns:
            A tensor (B, M, K); in training its shape is that of the network's output.
        """
        pixels = ops.cast(self.at_size(images), "float32")
        logits = self.network(pixels, training=training)
        return nan_where_not_finite(logits, images)  # resizing may have left the pixel out

    def at_size(self, images: Tensor) -> Tensor:
        """Return images at the size of the network, as `resize` says.

        Args:
            images: tensor (B, h, w, C) in [0, 255].

        Returns:
            The images themselves where they have that size, else a float32 tensor (B, H, W, C).

        Raises:
            ValueError: for images of another size without `resize`.
        """
        size = tuple(self.input_shape[1:3])
        if tuple(images.shape[1:3]) == size:
            return images
        if self.resize is None:
            check_size(images, self.input_shape)
            return images
        return resized(images, size, self.resize)

    def _answer(self, logits):
        answer = ensemble_log_probabilities(logits)
        if self.calibration is not None:
            answer = self.calibration(answer)
        return ops.exp(answer) if self.activation == "softmax" else answer

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Return the loss of the members.

        In training its value is the mean over members, and its gradient that of the sum or the mean, as
        `member_loss` says.

        Args:
            x: images of a batch, as in `keras.Model.compute_loss`. Default: None.
            y: their labels. Default: None.
            y_pred: what `call` returned for them. Default: None.
            sample_weight: weights (B,) of the images. Default: None, all 1.
            training: bool, whether it is computed for a training step. Default: True.

        Returns:
            A scalar tensor.

        Raises:
            ValueError: for a Keras cross-entropy of logits if the model gives probabilities, or the
                reverse.
        """
        check_loss(self.loss, self.activation)
        if len(y_pred.shape) != 3 or keras_internals.compiled_loss(self) is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        members = ops.unstack(ops.softmax(y_pred) if self.activation == "softmax" else y_pred, axis=1)
        losses = [
            keras_internals.compiled_loss(self)(labels, member, sample_weight)
            for labels, member in zip(self._member_labels(y, len(members)), members)
        ]
        mean = sum(losses) / len(losses)
        total = mean
        if self.member_loss == "sum":
            total = self.num_members * mean
            total = ops.stop_gradient(mean) + (total - ops.stop_gradient(total))
        # Not through super(): regularisers count once, not once a member.
        added = (keras_internals.loss_per_replica(self, loss) for loss in self.losses)
        return sum((ops.cast(loss, total.dtype) for loss in added), total)

    def _member_labels(self, y, count):
        """Labels for each member: `y`, smoothed where a member's label smoothing is a hyperparameter."""
        for layer in keras_internals.flatten_layers(self):
            smoothing = layer.smoothing() if hasattr(layer, "smoothing") else None
            if smoothing is not None:
                labels = label_distribution(y, self.num_classes)
                shares = [share[:, None] for share in ops.unstack(smoothing, axis=1)]
                return [labels * (1 - share) + share / self.num_classes for share in shares]
        return [y] * count

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        """Return the metrics of the averaged prediction.

        Args:
            x: images of a batch.
            y: their labels.
            y_pred: what `call` returned for them: member logits (B, M, K) or averaged answers (B, K).
            sample_weight: weights (B,) of the images. Default: None, all 1.

        Returns:
            A dictionary from a metric's name to its value so far.
        """
        if len(y_pred.shape) == 3:
            y_pred = self._answer(y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train as `keras.Model.fit` does, after checks of images and labels.

        Args:
            x: images (N, H, W, C) in [0, 255], or a data set, as in Keras. Default: None.
            y: labels, integer (N,) or (N, 1), or one-hot or soft (N, K). Default: None, those of a data
                set.
            batch_size: int >= 1, images per step. Default: None, 32 for arrays.
            args: further arguments of `keras.Model.fit`.
            kwargs: the same by name, such as epochs.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: for labels that do not fit the model, a data set that has its class names in
                another order, or a batch smaller than the number of members among whom it is split.
        """
        self._check_images(x)
        adopt(self, x)
        check_order(self, names_in(kwargs.get("validation_data")))
        check_batch(self.spec, 32 if batch_size is None and hasattr(x, "__array__") else batch_size)
        return super().fit(x, y, batch_size, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as `keras.Model.evaluate` does, after checks of images and labels.

        Args:
            x: images (N, H, W, C) in [0, 255], or a data set, as in Keras. Default: None.
            y: labels, as in `fit`. Default: None, those of the data set.
            args: further arguments of `keras.Model.evaluate`.
            kwargs: the same by name, such as batch_size.

        Returns:
            The loss and the metrics, as `keras.Model.evaluate` returns them.

        Raises:
            ValueError: for labels that do not fit the model, or a data set that has its class names in
                another order.
        """
        self._check_images(x)
        check_order(self, names_in(x))
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict as `keras.Model.predict` does: log-probabilities of the average, not probabilities.

        Use `zoo.predict(model, images)` for probabilities, names, members and uncertainties, and for
        folders, files and images of mixed sizes.

        Args:
            x: images (N, H, W, C) in [0, 255], or a data set, as in Keras.
            args: further arguments of `keras.Model.predict`, such as batch_size.
            kwargs: the same by name.

        Returns:
            Float32 array (N, K): the log of the mean of the members' probabilities, calibrated where the
            model is, or that mean itself with `activation="softmax"`.

        Raises:
            ValueError: for images of another size than the model's, unless it resizes.
        """
        self._check_images(x)
        return super().predict(x, *args, **kwargs)

    def _check_images(self, x):
        if self.resize is None:
            check_size(x, self.input_shape)

    def make_train_function(self, force: bool = False) -> Any:
        """Build the training function, with the fast weights' learning-rate multipliers applied.

        Args:
            force: bool, whether to build it again where there is one. Default: False.

        Returns:
            The function, as `keras.Model.make_train_function` returns it.
        """
        fast_weights.apply_multipliers(self.optimizer, self)
        return super().make_train_function(force)

    def export(
        self, filepath: Any, format: str = "tf_saved_model", input_signature: Any = None, **kwargs: Any
    ) -> Any:
        """Export as `keras.Model.export` does; `zoo.export` writes members and uncertainties, too.

        Args:
            filepath: str or path of the artifact.
            format: str, as in Keras. Default: "tf_saved_model".
            input_signature: list of `keras.InputSpec`, as in Keras. Default: None, float32 images in a
                batch of any size.
            kwargs: further arguments of `keras.Model.export`.

        Returns:
            What `keras.Model.export` returns.
        """
        if input_signature is None:
            input_signature = [keras.InputSpec(shape=self.input_shape, dtype="float32", name="images")]
        return super().export(filepath, format=format, input_signature=input_signature, **kwargs)

    def get_config(self) -> dict:
        """Return the arguments of the model, serialised."""
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "activation": self.activation,
            "member_loss": self.member_loss,
            "spec": self.spec,
            "class_names": self.class_names and list(self.class_names),
            "resize": self.resize,
            "calibration": self.calibration and keras.saving.serialize_keras_object(self.calibration),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> EnsembleClassifier:
        """Make a model from `get_config`.

        Args:
            config: dict.
            custom_objects: dict of names to classes. Default: None.

        Returns:
            An `EnsembleClassifier`, not compiled.
        """
        config = dict(config)
        for key in ("network", "calibration"):
            if config.get(key) is not None:
                config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects)
        return cls(**config)

"""`EnsembleClassifier`: the `keras.Model` that makes fit, evaluate and predict right."""

import math

import keras
from keras import ops

from zoo import fast_weights
from zoo.checks import check_batch, check_class_names, check_labels, check_loss
from zoo.keras_workarounds import TrainsUnderStrategies
from zoo.losses import label_distribution


def ensemble_log_probabilities(logits):
    """Log of the mean of member softmaxes: (B, M, K) logits to (B, K), in float32."""
    log_members = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    return ops.logsumexp(log_members, axis=1) - math.log(logits.shape[1])


@keras.saving.register_keras_serializable(package="zoo")
class EnsembleClassifier(TrainsUnderStrategies, keras.Model):
    """A classifier of M members that trains each of them and answers with their average.

    Args:
        network: a `keras.Model` from images (B, H, W, C), uint8 or float in [0, 255], to member
            logits (B, M, K).
        activation: None, to answer with log-probabilities, or "softmax", for probabilities.
        member_loss: "sum" over members, so that each trains as it would alone, or "mean".  A network that
            answers more than once a member in training (MIMO's repetitions) has those averaged.
        spec: what `zoo.build` made the network from (a plain dictionary), or None.
        calibration: a layer from log-probabilities (B, K) to calibrated ones, applied to the average
            (see `zoo.calibrate`), or None.
        class_names: K strings, or None; `zoo.predict` answers with them.

    Called with `training=True` it returns member logits (B, M, K), or as many as the network gives in
    training (split batches: 1, MIMO: M * r).  Otherwise it returns (B, K): the
    log of the mean of the members' softmaxes, which is a normalised log-distribution and so serves
    as logits, or that mean itself with `activation="softmax"`.

    `fit` takes plain labels.  In training the loss is taken of each member and summed over members
    (Lakshminarayanan et al., 2017), averaged over the batch, so it shows about M times
    the loss that `evaluate` shows; metrics see the averaged prediction.

    Raises:
        ValueError: for another activation or member_loss, a network whose output is not (B, M, K), or
            labels out of range.
    """

    def __init__(
        self, network, activation=None, member_loss="sum", spec=None, calibration=None,
        class_names=None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        if activation not in (None, "softmax"):
            raise ValueError(f'activation must be None or "softmax"; got {activation!r}')
        if member_loss not in ("sum", "mean"):
            raise ValueError(f'member_loss must be "sum" or "mean"; got {member_loss!r}')
        if len(network.output_shape) != 3:
            raise ValueError(f"the network must give (B, M, K) logits; it gives {network.output_shape}")
        self.network = network
        self.activation = activation
        self.member_loss = member_loss
        self.spec = spec
        self.calibration = calibration
        self.class_names = check_class_names(class_names, self.num_classes)
        self.build((None, *network.input_shape[1:]))

    @property
    def num_members(self):
        """M."""
        return self.network.output_shape[1]

    @property
    def num_classes(self):
        """K."""
        return self.network.output_shape[2]

    @property
    def input_shape(self):
        """Shape of the images with their batch axis, (None, H, W, C)."""
        return self.network.input_shape

    def build(self, input_shape):
        self.built = True

    def call(self, images, training=False):
        logits = ops.cast(self.network(ops.cast(images, "float32"), training=training), "float32")
        return logits if training else self._answer(logits)

    def _answer(self, logits):
        answer = ensemble_log_probabilities(logits)
        if self.calibration is not None:
            answer = self.calibration(answer)
        return ops.exp(answer) if self.activation == "softmax" else answer

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        check_loss(self.loss, self.activation)
        if len(y_pred.shape) != 3 or self._compile_loss is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        members = ops.unstack(ops.softmax(y_pred) if self.activation == "softmax" else y_pred, axis=1)
        losses = [
            self._compile_loss(labels, member, sample_weight)
            for labels, member in zip(self._member_labels(y, len(members)), members)
        ]
        total = sum(losses) / len(losses) * (1 if self.member_loss == "mean" else self.num_members)
        # Not through super(): regularisers count once, not once a member.
        return sum((self._aggregate_additional_loss(loss) for loss in self.losses), total)

    def _member_labels(self, y, count):
        """Labels for each member: `y`, smoothed where a member's label smoothing is a hyperparameter."""
        for layer in self._flatten_layers():
            smoothing = layer.smoothing() if hasattr(layer, "smoothing") else None
            if smoothing is not None:
                labels = label_distribution(y, self.num_classes)
                shares = [share[:, None] for share in ops.unstack(smoothing, axis=1)]
                return [labels * (1 - share) + share / self.num_classes for share in shares]
        return [y] * count

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if len(y_pred.shape) == 3:
            y_pred = self._answer(y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        check_labels(y, self.num_classes)
        check_batch(self.spec, 32 if batch_size is None and hasattr(x, "__array__") else batch_size)
        validation = kwargs.get("validation_data")
        if isinstance(validation, (tuple, list)) and len(validation) > 1:
            check_labels(validation[1], self.num_classes)
        return super().fit(x, y, batch_size, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        check_labels(y, self.num_classes)
        return super().evaluate(x, y, *args, **kwargs)

    def make_train_function(self, force=False):
        fast_weights.apply_multipliers(self.optimizer, self)
        return super().make_train_function(force)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        check_labels(y, self.num_classes)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        check_labels(y, self.num_classes)
        return super().test_on_batch(x, y, *args, **kwargs)

    def export(self, filepath, format="tf_saved_model", input_signature=None, **kwargs):
        """Keras's export; images are float32 of any batch size unless `input_signature` says."""
        if input_signature is None:
            input_signature = [keras.InputSpec(shape=self.input_shape, dtype="float32", name="images")]
        return super().export(filepath, format=format, input_signature=input_signature, **kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "activation": self.activation,
            "member_loss": self.member_loss,
            "spec": self.spec,
            "class_names": self.class_names,
            "calibration": self.calibration and keras.saving.serialize_keras_object(self.calibration),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for key in ("network", "calibration"):
            if config.get(key) is not None:
                config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects)
        return cls(**config)

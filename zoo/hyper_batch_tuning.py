"""Tuning of a hyper-batch ensemble's hyperparameters while it trains."""

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from zoo.checks import check_labels
from zoo.classifier import ensemble_log_probabilities
from zoo.layers import LogUniformHyperparameters
from zoo.layers.keras_internals import distribute_strategy, flatten_layers
from zoo.losses import label_distribution


class HyperparameterTuning(keras.callbacks.Callback):
    """A callback that tunes a hyper-batch ensemble's hyperparameter distributions on held-out images.

    After every `every`-th training step it takes one Adam step on the members' log-bounds, with fresh
    draws of hyperparameters and all weights fixed, down the gradient of

        mean of -log(mean over members of p_m[label]) - entropy_weight * H,
        H = mean over members and hyperparameters of
            (log_lower + log_upper) / 2 + log(log_upper - log_lower),

    which is the entropy of the log-uniform distributions; then bounds are clipped to their ranges.

    Args:
        images: array (N, H, W, C) in [0, 255], held-out images, not among the training images.
        labels: int array (N,), or distributions (N, K).
        every: int >= 1, training steps between two tuning steps. Default: 3.
        batch_size: int >= 1, held-out images in a tuning step, at most N. Default: 128.
        learning_rate: float >= 0, the learning rate of Adam. Default: 1e-3.
        entropy_weight: float >= 0, tau. Default: 1e-3.
        seed: int, the seed of the order of images and of the draws. Default: 0.

    Raises:
        ValueError: before training, for images or labels that do not fit the model or each other, a
            model of another method or on several replicas of tf.distribute, or an argument out of range.

    Example:
        >>> model = zoo.build(zoo.methods.HyperBatch(2), "mlp", num_classes=2, input_shape=(4, 4, 1))
        >>> images, labels = np.zeros((8, 4, 4, 1)), np.arange(8) % 2
        >>> tuning = zoo.HyperparameterTuning(images[:4], labels[:4], every=1)
        >>> history = model.fit(images[4:], labels[4:], callbacks=[tuning], verbose=0)
        >>> int(tuning.optimizer.iterations)  # tuning steps
        1

    References:
        Wenzel et al., Hyperparameter Ensembles, NeurIPS 2020, arXiv 2006.13570, section 5.2.
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        every: int = 3,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        entropy_weight: float = 1e-3,
        seed: int = 0,
    ):
        super().__init__()
        self.images, self.labels = np.asarray(images), np.asarray(labels)
        if len(self.images) != len(self.labels) or not len(self.images):
            raise ValueError(
                f"there are {len(self.images)} held-out images and {len(self.labels)} labels; "
                "pass one label for each image"
            )
        if every < 1 or batch_size < 1 or learning_rate < 0 or entropy_weight < 0:
            raise ValueError(
                f"every and batch_size must be >= 1 and the others >= 0; got every={every}, "
                f"batch_size={batch_size}, learning_rate={learning_rate}, entropy_weight={entropy_weight}"
            )
        self.every, self.batch_size = every, min(batch_size, len(self.images))
        self.entropy_weight = entropy_weight
        self.optimizer = keras.optimizers.Adam(learning_rate)
        self.seed = seed

    def set_model(self, model: keras.Model) -> None:
        """Check the held-out images against the model, as Keras hands it over before training.

        Args:
            model: an `EnsembleClassifier` of the hyper-batch method.

        Raises:
            ValueError: see the class.
        """
        super().set_model(model)
        strategy = distribute_strategy(model)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "tf.distribute cannot tune hyperparameters between steps on several replicas; train on one "
                "device, or with KERAS_BACKEND=jax by data parallelism (--strategy=data_parallel)"
            )
        network = _network_with_hyperparameters(model)
        if self.images.shape[1:] != model.input_shape[1:]:
            raise ValueError(
                f"held-out images are {self.images.shape[1:]}, and the model takes {model.input_shape[1:]}"
            )
        check_labels(self.labels, model.num_classes)
        self.layer = next(x for x in network.layers if isinstance(x, LogUniformHyperparameters))
        self.bounds = [self.layer.log_lower, self.layer.log_upper]
        if not self.optimizer.built:
            self.optimizer.build(self.bounds)
        self.gradients = _gradients_of(self._loss, network)

    @property
    def variables(self) -> list:
        """The variables that a checkpoint must keep beside the model for training to resume exactly."""
        return self.optimizer.variables

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.seen = -1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        passed, self.seen = batch - self.seen, batch  # several with steps_per_execution
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # while JAX trains, variables live outside the model
        step = int(ops.convert_to_numpy(self.model.optimizer.iterations))
        for due in range(step - passed + 1, step + 1):
            if due % self.every == 0:
                self.tune(due)

    def tune(self, step: int) -> float:
        """Take one tuning step.

        Args:
            step: int, the number of the training step, which decides all draws.

        Returns:
            The tuning loss, a float.
        """
        rng = np.random.default_rng([self.seed, step])
        rows = rng.choice(len(self.images), self.batch_size, replace=False)
        count = self.batch_size * self.layer.num_members
        uniform = rng.random((count, len(self.layer.ranges)), dtype="float32")
        bounds = self.bounds
        labels = ops.convert_to_numpy(label_distribution(self.labels[rows], self.model.num_classes))
        loss, gradients = self.gradients(
            [ops.convert_to_tensor(bound) for bound in bounds],
            ops.convert_to_tensor(self.images[rows].astype("float32")), ops.convert_to_tensor(labels),
            ops.convert_to_tensor(uniform),
        )  # fmt: skip
        self.optimizer.apply(gradients, bounds)
        self._clip()
        return float(loss)

    def _loss(self, forward, bounds, images, labels, uniform):
        lower, upper = bounds
        hyperparameters = self.layer.sample(lower, upper, uniform)
        with self.layer.with_values(hyperparameters):
            answers = ensemble_log_probabilities(forward(images))
        entropy = ops.mean((lower + upper) / 2 + ops.log(upper - lower))
        return -ops.mean(ops.sum(labels * answers, axis=-1)) - self.entropy_weight * entropy

    def _clip(self):
        low, high = self.layer.limits()
        least = 0.5e-6 * (high - low)
        lower = ops.clip(self.layer.log_lower, low, high - 2 * least)
        self.layer.log_lower.assign(lower)
        self.layer.log_upper.assign(ops.clip(self.layer.log_upper, lower + least, high))


def _network_with_hyperparameters(model):
    for network in flatten_layers(model):
        if isinstance(network, keras.Model) and any(
            isinstance(layer, LogUniformHyperparameters) for layer in getattr(network, "operations", ())
        ):
            return network
    raise ValueError(f"{model.name} has no hyperparameters to tune; this is for hyper_batch models")


def _gradients_of(loss, network):
    """A function (bounds, *data) -> (loss, gradients by bounds) of `loss(forward, bounds, *data)`."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow_gradients(loss, network)
    if backend == "jax":
        return _jax_gradients(loss, network)
    if backend == "torch":
        return _torch_gradients(loss, network)
    raise ValueError(f"hyperparameters cannot be tuned on the {backend} backend, which has no gradients")


def _tensorflow_gradients(loss, network):
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def gradients(bounds, *data):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(bounds)
            value = loss(lambda images: network(images, training=False), bounds, *data)
        return value, tape.gradient(value, bounds)

    return gradients


def _jax_gradients(loss, network):
    import jax

    @jax.jit
    def gradients(bounds, weights, *data):
        def value(bounds):
            def forward(images):
                return network.stateless_call(*weights, images, training=False)[0]

            return loss(forward, bounds, *data)

        return jax.value_and_grad(value)(bounds)

    def with_weights(bounds, *data):
        trainable = [variable.value for variable in network.trainable_variables]
        others = [variable.value for variable in network.non_trainable_variables]
        return gradients(bounds, (trainable, others), *data)

    return with_weights


def _torch_gradients(loss, network):
    import torch

    def gradients(bounds, *data):
        with torch.enable_grad():
            bounds = [bound.detach().requires_grad_() for bound in bounds]
            value = loss(lambda images: network(images, training=False), bounds, *data)
            return value.detach(), torch.autograd.grad(value, bounds)

    return gradients

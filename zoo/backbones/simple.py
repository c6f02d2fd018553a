"""MLP and LeNet-5 (LeCun et al., 1998), with rectifiers and max pooling."""

from keras import layers

from zoo.layers.initializers import HeNormal


def _dense(method, x, units, role, name):
    x = method.dense(units, role, kernel_initializer=HeNormal(), name=name)(x)
    return method.per_member(layers.ReLU(name=f"{name}_relu"))(x)


def mlp(method, images, stem=None, hidden_units=(200, 200)):
    """Dense layers of `hidden_units` over the flattened image."""
    x = layers.Flatten(name="flatten")(images)
    for index, units in enumerate(hidden_units):
        x = method.begin_stage(index, x) if index else x
        x = _dense(method, x, units, "hidden" if index else "stem", f"dense{index + 1}")
    return x


def lenet(method, images, stem=None):
    """Convolutions of 6 and 16 filters 5x5, each pooled by two, then dense layers of 120 and 84."""
    x = images
    for index, filters in enumerate((6, 16)):
        name = f"conv{index + 1}"
        x = method.begin_stage(index, x) if index else x
        options = {"padding": "valid" if index else "same", "kernel_initializer": HeNormal()}
        x = method.conv(filters, 5, "hidden" if index else "stem", name=name, **options)(x)
        x = method.per_member(layers.ReLU(name=f"{name}_relu"))(x)
        x = method.per_member(layers.MaxPooling2D(name=f"{name}_pool"))(x)
    x = method.begin_stage(2, method.per_member(layers.Flatten(name="flatten"))(x))
    for index, units in enumerate((120, 84)):
        x = _dense(method, x, units, "hidden", f"dense{index + 1}")
    return x

"""Make `keras.saving.load_model` know our classes wherever zoo and Keras are both imported.

Registration needs Keras, and importing Keras imports TensorFlow; `import zoo` alone shall not.  So our
classes are registered at once where Keras is there already, and else right after it is imported.
"""

import importlib
import importlib.abc
import importlib.util
import sys

_MODULES = (
    "zoo.classifier", "zoo.calibration", "zoo.layers.initializers", "zoo.losses", "zoo.metrics", "zoo.layers",
    "zoo.training.loop.augmentation", "zoo.training.loop.learning_rates",
    "zoo.training.memory.rematerialize",
)  # fmt: skip


def register_with_keras():
    """Register now, or as soon as Keras has been imported."""
    if "keras" in sys.modules:
        _import_all()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _import_all():
    for module in _MODULES:
        importlib.import_module(module)


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Finds `keras` once, as everybody else would, and registers when it has been executed."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _import_all()

            spec.loader.exec_module = exec_module
        return spec

"""Make `keras.saving.load_model` know our classes wherever zoo and Keras are both imported.

Registration needs Keras, and importing Keras imports TensorFlow; `import zoo` alone must not.  So our
classes are registered at once if Keras has been imported, and otherwise right after it is.
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


def register_with_keras() -> None:
    """Register now, or as soon as Keras has been imported."""
    if "keras" in sys.modules:
        _import_all()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _import_all():
    for module in _MODULES:
        importlib.import_module(module)


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Registers when Keras has been executed, or the module of ours that imported it: not half way through."""

    def __init__(self):
        self.depth = 0  # modules that are being executed, one imported by the other
        self.looking = False

    def find_spec(self, name, path=None, target=None):
        if self.looking or not (name == "keras" or name.startswith("zoo.")):
            return None
        self.looking = True
        try:
            spec = importlib.util.find_spec(name)  # as everybody else would find it
        finally:
            self.looking = False
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._counted(spec.loader.exec_module)
        return spec

    def _counted(self, execute):
        def exec_module(module):
            self.depth += 1
            try:
                execute(module)
            finally:
                self.depth -= 1
            if not self.depth and "keras" in sys.modules and self in sys.meta_path:
                sys.meta_path.remove(self)
                _import_all()

        return exec_module

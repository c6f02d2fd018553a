"""Every class that registers with Keras anywhere in the package is known after `import zoo` alone."""

import pytest

WALK = """
import importlib, pkgutil
import zoo
import keras

known = set(keras.saving.get_custom_objects())
assert any(name.startswith("zoo>") for name in known), known
failed = []
for module in pkgutil.walk_packages(zoo.__path__, "zoo."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError:  # an extra that is not installed
        failed.append(module.name)
missing = {
    name for name in set(keras.saving.get_custom_objects()) - known
    if keras.saving.get_custom_objects()[name].__module__.startswith("zoo.")
}
assert len(known) > 40, len(known)
print(sorted(missing), failed)
"""


@pytest.mark.slow
def test_every_registered_class_is_found_after_import_zoo(python):
    assert python("-c", WALK).stdout.startswith("[] ")

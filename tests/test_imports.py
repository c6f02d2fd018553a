"""Any part of the package may be the first to be imported: registration with Keras must not go in circles."""

import pytest


@pytest.mark.parametrize(
    "code",
    [
        "import zoo; zoo.load",
        "import zoo.layers",
        "from zoo.metrics import *",
        "import zoo.evaluation.evaluate",
    ],
)
def test_parts_come_first(code, python):
    python("-c", code, KERAS_BACKEND="jax")

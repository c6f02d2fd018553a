"""Any part of the package may be the first to be imported: registration with Keras must not go in circles."""

import pytest


@pytest.mark.slow
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


def test_listing_models_needs_neither_keras_nor_a_backend(python):
    code = (
        "import sys, zoo; assert 'packed_resnet50' in zoo.list_models(); zoo.list_models(dataset='cifar10'); "
        "print(*sorted({'keras', 'tensorflow', 'jax', 'torch', 'numpy'} & set(sys.modules)))"
    )
    assert python("-c", code).stdout.split() == []

"""Checks of the numbers that layers are made with: one line that names the argument, whatever was given."""

import numbers
from collections.abc import Callable
from typing import Any


def check_number(value: Any, name: str, wanted: str, fits: Callable[[Any], bool]) -> None:
    """Check that a value is a number in a range.

    Args:
        value: what was given, perhaps text.
        name: str, the argument's name.
        wanted: str, what it must be, for the message, such as "in [0, 1]".
        fits: function of a number that tells whether it is; it need not expect NaN.

    Raises:
        ValueError: if it is not.
    """
    if not (isinstance(value, numbers.Real) and value == value and fits(value)):
        raise ValueError(f"{name} must be {wanted}; got {value!r}")


def check_count(value: Any, name: str) -> None:
    """Check that a value is an integer >= 1.

    Args:
        value: what was given; NumPy's integers are integers, too.
        name: str, the argument's name.

    Raises:
        ValueError: if it is not.
    """
    if not (isinstance(value, numbers.Integral) and int(value) >= 1):
        raise ValueError(f"{name} must be an integer >= 1; got {value!r}")

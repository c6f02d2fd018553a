"""Test splits as evaluation reads them: any fault of a file is reported in one line."""

import zipfile
from typing import Any


def read_test_split(name: str, data_dir: Any) -> Any:
    """Read the test split of a data set.

    Args:
        name: str, the data set's name.
        data_dir: str or path of the data sets.

    Returns:
        A `zoo.data.arrays.Split`.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if its files cannot be read.
    """
    from zoo.data import arrays

    try:
        return arrays.load(name, "test", data_dir)
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ValueError(
            f"the files of {name} in {data_dir} cannot be read ({reason}); prepare them again"
        ) from None

"""Test splits as evaluation reads them: whatever is wrong with a file is said in one line."""

import zipfile


def read_test_split(name, data_dir):
    """The test split of a data set, as `zoo.data.arrays.load` gives it.

    Raises:
        FileNotFoundError: where it is not there.
        ValueError: where its files cannot be read.
    """
    from zoo.data import arrays

    try:
        return arrays.load(name, "test", data_dir)
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ValueError(
            f"the files of {name} in {data_dir} cannot be read ({reason}); prepare them again"
        ) from None

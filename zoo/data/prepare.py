"""Make DATA/NAME.npz of a data set's official archive.

    python -m zoo.data.prepare tiny_imagenet tiny-imagenet-200.zip DATA
    python -m zoo.data.prepare cifar100 cifar-100-binary.tar.gz DATA

The file holds x_train, y_train, x_test, y_test and class_names: images are uint8 (N, H, W, 3), labels
int32.  Archives list one class after another, so each split is shuffled once, always in the same way.
Nothing is unpacked to disk, and nothing in an archive is executed.
"""

import argparse
import collections
import io
import os
import pathlib
import sys
import tarfile
import zipfile
import zlib

import numpy as np

from zoo import command_errors

TINY_SIDE, CIFAR_SIDE = 64, 32
_DAMAGE = (
    EOFError, KeyError, OSError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def prepare(name: str, archive: str | os.PathLike, data_dir: str | os.PathLike) -> pathlib.Path:
    """Read an official archive and write DATA_DIR/NAME.npz, in one step.

    Args:
        name: str, "tiny_imagenet" or "cifar100".
        archive: path of tiny-imagenet-200.zip or cifar-100-binary.tar.gz.
        data_dir: folder to write to; created if missing.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: where there is no archive.
        ValueError: for an unknown name, or a file that is damaged or not this archive.
    """
    if name not in READERS:
        raise ValueError(f"no archive of {name!r} can be prepared; there are {', '.join(READERS)}")
    archive, data_dir = pathlib.Path(archive).expanduser(), pathlib.Path(data_dir).expanduser()
    if not archive.is_file():
        raise FileNotFoundError(f"no archive {archive}; docs/datasets.md says where to download it")
    try:
        arrays = READERS[name](archive)
    except _DAMAGE as error:
        raise ValueError(
            f"{archive} is damaged or not the official archive of {name} ({error}); download it again"
        ) from None
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / f"{name}.npz"
    draft = path.with_name(f"{name}.{os.getpid()}.tmp.npz")
    try:
        np.savez(draft, **arrays)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def tiny_imagenet(archive: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read tiny-imagenet-200.zip; the validation images, whose labels are public, are the test split.

    Args:
        archive: path of the ZIP file.

    Returns:
        A dictionary of arrays: x_train, y_train, x_test, y_test, class_names.
    """
    with zipfile.ZipFile(archive) as files:
        names = sorted(files.namelist())
        root = next((name[: -len("wnids.txt")] for name in names if name.endswith("/wnids.txt")), "")
        wnids = sorted(_text(files, f"{root}wnids.txt").split())
        number = {wnid: index for index, wnid in enumerate(wnids)}
        words = dict(line.split("\t", 1) for line in _text(files, f"{root}words.txt").splitlines())
        annotations = _text(files, f"{root}val/val_annotations.txt").splitlines()
        wnid_of = dict(line.split("\t")[:2] for line in annotations)
        train = [name for name in names if name.startswith(f"{root}train/") and name.endswith(".JPEG")]
        test = [name for name in names if name.startswith(f"{root}val/") and name.endswith(".JPEG")]
        y_train = [number[name.removeprefix(root).split("/")[1]] for name in train]
        y_test = [number[wnid_of[name.rsplit("/", 1)[1]]] for name in test]
        x_train, y_train = _photographs(files, train, y_train)
        x_test, y_test = _photographs(files, test, y_test)
    return {
        "x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test,
        "class_names": np.array(unique_names({wnid: words[wnid] for wnid in wnids})),
    }  # fmt: skip


def _text(files, name):
    return files.read(name).decode()


def _photographs(files, names, labels):
    """Images (N, 64, 64, 3) and labels of files in a ZIP archive, shuffled; grey ones become RGB."""
    from PIL import Image

    order = _order(names)
    images = np.empty((len(names), TINY_SIDE, TINY_SIDE, 3), np.uint8)
    for place, row in enumerate(order):
        with Image.open(io.BytesIO(files.read(names[row]))) as image:
            if image.size != (TINY_SIDE, TINY_SIDE):
                raise ValueError(f"{names[row]} has {image.size[0]} x {image.size[1]} pixels")
            images[place] = image.convert("RGB")
    return images, np.array(labels, np.int32)[order]


def unique_names(synonyms: dict[str, str]) -> list[str]:
    """Return a unique name for each class.

    It is the first synonym, more of them if another class shares it, or else the first synonym with
    the WordNet id behind it.

    Args:
        synonyms: {WordNet id: "synonym, synonym, ..."}.

    Returns:
        A list of str, in the order of `synonyms`.

    Example:
        >>> unique_names({"n1": "crane", "n2": "crane, wader", "n3": "dog, hound"})
        ['crane (n1)', 'crane, wader', 'dog']
    """
    candidates = []
    for wnid, text in synonyms.items():
        words = [word.strip() for word in text.split(",")]
        some = [", ".join(words[: count + 1]) for count in range(len(words))]
        candidates.append([*some, f"{words[0]} ({wnid})"])
    classes = collections.Counter(name for names in candidates for name in set(names))
    return [next(name for name in names if classes[name] == 1) for names in candidates]


def cifar100(archive: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read cifar-100-binary.tar.gz, with the 100 fine labels.

    Args:
        archive: path of the archive.  The Python version, whose files are pickles, is not read.

    Returns:
        A dictionary of arrays: x_train, y_train, x_test, y_test, class_names.
    """
    wanted = ("train.bin", "test.bin", "fine_label_names.txt")
    with tarfile.open(archive, "r:gz") as files:
        found = {pathlib.PurePosixPath(entry.name).name: entry for entry in files if entry.isfile()}
        missing = [name for name in wanted if name not in found]
        if missing:
            raise ValueError(f"it has no {missing[0]}; take the binary version, cifar-100-binary.tar.gz")
        train, test, names = (files.extractfile(found[name]).read() for name in wanted)
    names = names.decode().split()
    x_train, y_train = _records(train, len(names))
    x_test, y_test = _records(test, len(names))
    return {
        "x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test,
        "class_names": np.array(names),
    }  # fmt: skip


def _records(data, classes):
    """Images and labels of records: a byte of the coarse label, one of the fine, then a plane a colour."""
    records = np.frombuffer(data, np.uint8).reshape(-1, 2 + 3 * CIFAR_SIDE**2)
    records = records[_order(records)]
    labels = records[:, 1].astype(np.int32)
    if labels.max() >= classes:
        raise ValueError(f"label {labels.max()} of {classes} classes")
    planes = records[:, 2:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _order(rows):
    """The fixed shuffle of a split."""
    if not len(rows):
        raise ValueError("a split has no images")
    return np.random.default_rng(0).permutation(len(rows))


READERS = {"tiny_imagenet": tiny_imagenet, "cifar100": cifar100}


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: list of str. Default: None, those of the command line.

    Returns:
        The exit status: 0; 2 after an error, which is one line; 130 after Ctrl-C.

    Raises:
        SystemExit: for arguments that do not fit, with status 2.
    """
    parser = command_errors.Parser(
        prog="python -m zoo.data.prepare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("name", choices=READERS, help="name of the data set")
    parser.add_argument("archive", help="tiny-imagenet-200.zip or cifar-100-binary.tar.gz")
    parser.add_argument("data_dir", metavar="DATA", help="folder to write NAME.npz to")
    options = parser.parse_args(arguments)
    try:
        path = prepare(options.name, options.archive, options.data_dir)
    except (Exception, KeyboardInterrupt) as error:
        return command_errors.report(error, "zoo.data.prepare")
    with np.load(path) as arrays:
        train, test, names = (len(arrays[key]) for key in ("y_train", "y_test", "class_names"))
    print(f"{path}: {train:,} training and {test:,} test images of {names} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Models on the Hugging Face Hub: `zoo.save_to_hub`, and `zoo.load("hf://owner/name@revision")`.

A repository holds what Keras itself writes to a hub, a model card, and `zoo.json` with the sha256 of the
model's files.  So `keras.saving.load_model("hf://owner/name")` reads it, too.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError, WeightsError
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.classifier import EnsembleClassifier

PREFIX = "hf://"
_FILES = ("config.json", "metadata.json", "model.weights.h5")
_RECORD = "zoo.json"


def save_to_hub(
    model: EnsembleClassifier,
    address: str,
    metrics: dict[str, dict[str, float]] | None = None,
    license: str | None = None,
    private: bool = False,
) -> str:
    """Upload a classifier, with a model card, to the Hugging Face Hub.

    A repository that does not exist is created. You must be logged in (`hf auth login`), or have a token
    in HF_TOKEN. HF_ENDPOINT chooses another hub. Needs the extra `huggingface`.

    Args:
        model: an `EnsembleClassifier`.
        address: str, "hf://owner/name".
        metrics: dict from a test set's name to a dict of scores, such as `{"clothing": {"accuracy":
            0.9}}`, for the card. Default: None, no scores.
        license: str, the hub's name of a licence, such as "apache-2.0". Default: None, no licence.
        private: bool, whether a new repository is private. Default: False.

    Returns:
        The address of exactly this version, "hf://owner/name@revision", which `zoo.load` takes.

    Raises:
        ValueError: if the model is not an `EnsembleClassifier`, or the address is not of this form.
        ImportError: without `huggingface_hub`.

    Example:
        >>> model = zoo.build(zoo.methods.Packed(2), "mlp", num_classes=3, input_shape=(4, 4, 1))
        >>> zoo.save_to_hub(model, "owner/name")
        Traceback (most recent call last):
        ValueError: an address on the hub is hf://owner/name; got 'owner/name'
    """
    from zoo.classifier import EnsembleClassifier

    if not isinstance(model, EnsembleClassifier):
        raise ValueError(f"save_to_hub takes an EnsembleClassifier; got {type(model).__name__}")
    repository, revision = _parsed(address)
    if revision is not None:
        raise ValueError(f"a new version has no revision yet; leave out @{revision}")
    api = _api()
    with tempfile.TemporaryDirectory() as folder:
        write_folder(model, folder, repository, metrics, license)
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Upload an ensemble of the ensemble zoo",
        )
    return f"{PREFIX}{repository}@{commit.oid}"


def write_folder(
    model: EnsembleClassifier,
    folder: str | os.PathLike,
    repository: str,
    metrics: dict[str, dict[str, float]] | None = None,
    license: str | None = None,
) -> None:
    """Write the files of a repository.

    Args:
        model: an `EnsembleClassifier`.
        folder: str or path of an existing folder.
        repository: str, "owner/name", for the card.
        metrics: dict of dicts of scores, see `save_to_hub`. Default: None.
        license: str, see `save_to_hub`. Default: None.
    """
    import keras

    from zoo.files.hashes import fingerprint

    metrics = {
        name: {score: float(value) for score, value in scores.items()}
        for name, scores in (metrics or {}).items()
    }
    folder = pathlib.Path(folder)
    keras.saving.save_model(model, folder / "model.keras")
    with zipfile.ZipFile(folder / "model.keras") as archive:
        archive.extractall(folder)
    (folder / "model.keras").unlink()
    record = {"files": {name: fingerprint(folder / name) for name in _FILES}, "metrics": metrics}
    (folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n")
    (folder / "README.md").write_text(model_card(model, repository, metrics, license), encoding="utf-8")


def load(address: str) -> EnsembleClassifier:
    """Load a classifier from the Hugging Face Hub; `zoo.load` calls this.

    Files are downloaded once and verified against the sha256 that the repository records. A revision
    (a commit's hash, a tag or a branch) pins the version; without one it is the newest.

    Args:
        address: str, "hf://owner/name" or "hf://owner/name@revision".

    Returns:
        An `EnsembleClassifier`, as it was saved.

    Raises:
        MissingWeightsError: if there is no such repository, revision or file, or no connection.
        WeightsError: for files that were changed or hold no classifier.
        ImportError: without `huggingface_hub`.
    """
    from zoo.classifier import EnsembleClassifier
    from zoo.errors import one_line
    from zoo.files import keras_files

    repository, revision = _parsed(address)
    api = _api()
    try:
        found = api.snapshot_download(repository, revision=revision, allow_patterns=[*_FILES, _RECORD])
    except Exception as error:  # the library has a kind for every fault
        raise MissingWeightsError(
            f"{address} cannot be downloaded ({one_line(error)}); check the name, the revision and the connection"
        ) from None
    folder = pathlib.Path(found)
    _verify(folder, address)
    with tempfile.TemporaryDirectory() as temporary:
        packed = pathlib.Path(temporary) / "model.keras"
        with zipfile.ZipFile(packed, "w") as archive:
            for name in _FILES:
                archive.write(folder / name, name)
        try:
            model = keras_files.load(packed)
        except WeightsError as error:
            reason = str(error).removeprefix(f"{packed}: ")
            raise WeightsError(f"{address}: {reason}") from None
    if not isinstance(model, EnsembleClassifier):
        raise WeightsError(
            f"{address} holds a {type(model).__name__}; load it with keras.saving.load_model"
        )
    return model


def _verify(folder, address):
    from zoo.files.hashes import fingerprint

    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise MissingWeightsError(f"{address} has no {missing[0]}: it is not a model that Keras saved")
    if not (folder / _RECORD).is_file():  # saved by Keras itself: the hub's own hash must do
        return
    try:
        recorded = json.loads((folder / _RECORD).read_text())["files"]
        hashes = {name: recorded[name]["sha256"] for name in _FILES}
    except (ValueError, KeyError, TypeError):
        raise WeightsError(f"{address} has a damaged {_RECORD}; take another revision") from None
    for name, expected in hashes.items():
        if fingerprint(folder / name)["sha256"] != expected:
            raise WeightsError(
                f"{address}: {name} has been changed, its sha256 is not the recorded one; take another revision"
            )


def _parsed(address):
    """(owner/name, revision or None) of an address."""
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", str(address))
    if not match:
        raise ValueError(f"an address on the hub is hf://owner/name; got {address!r}")
    return match.groups()


def _api():
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError("models on the hub need: pip install 'ensemble-zoo[huggingface]'") from None

    return huggingface_hub.HfApi(
        endpoint=os.environ.get("HF_ENDPOINT") or None,
        library_name="ensemble-zoo",
        library_version=__version__,
    )


def model_card(
    model: EnsembleClassifier,
    repository: str,
    metrics: dict[str, dict[str, float]] | None = None,
    license: str | None = None,
) -> str:
    """Return a model card in the hub's format.

    Args:
        model: an `EnsembleClassifier`.
        repository: str, "owner/name".
        metrics: dict of dicts of scores, see `save_to_hub`. Default: None.
        license: str, see `save_to_hub`. Default: None.

    Returns:
        A string: metadata in YAML, then Markdown.
    """
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-classification", dataset_type=dataset, dataset_name=dataset, metric_type=metric,
            metric_value=value,
        )
        for dataset, figures in (metrics or {}).items()
        for metric, value in figures.items()
    ]  # fmt: skip
    more: dict[str, Any] = {}
    if results:
        more = {"model_name": repository.partition("/")[2], "eval_results": results}
    data = ModelCardData(
        library_name="keras", pipeline_tag="image-classification", license=license,
        tags=["ensemble", "uncertainty", "image-classification", "ensemble-zoo"],
        **more,
    )  # fmt: skip
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(_sections(model, repository, metrics)) + "\n"


def _sections(model, repository, metrics):
    height, width, channels = model.input_shape[1:]
    names = model.class_names
    yield from (f"# {repository.partition('/')[2]}", "")
    yield (
        f"An ensemble of {model.num_members} members ({model.name}) for images {height}x{width}x{channels} in [0, 255], "
        f"other sizes: {model.resize or 'refused'}. {model.num_classes} classes"
        + (f": {', '.join(names[:50])}{', ...' if len(names) > 50 else ''}." if names else ".")
    )
    code = ["import zoo", "", f'model = zoo.load("{PREFIX}{repository}")']
    code.append('prediction = zoo.predict(model, "folder_of_photographs")')
    yield from ("", "```python", *code, "```", "")
    yield (
        "`prediction` has probabilities, the members' own answers and uncertainties. Pin a version with "
        f"`{PREFIX}{repository}@revision`. Files are verified by the sha256 in `{_RECORD}`."
    )
    columns = list(dict.fromkeys(metric for figures in (metrics or {}).values() for metric in figures))
    if columns:
        yield from ("", f"| test set | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns))
        for dataset, figures in (metrics or {}).items():
            yield f"| {dataset} | {' | '.join(str(figures.get(metric, '')) for metric in columns)} |"

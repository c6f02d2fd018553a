"""Models on a hub: a server on this machine that speaks the Hugging Face Hub's protocol."""

import json

import keras
import numpy as np
import pytest

import zoo
from helpers.hub_server import serve
from zoo import hub

NAMES = ["cat", "dog", "owl"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # plain Git LFS
        monkeypatch.setenv("HF_TOKEN", "hf_of_this_test")
        yield running


@pytest.fixture
def model(tiny):
    model = tiny(resize="squash")
    model.class_names = NAMES
    return model


def test_a_model_comes_back_as_it_was_saved(server, model, images):
    address = zoo.save_to_hub(
        model, "hf://owner/birds", {"birds": {"accuracy": np.float32(0.91), "nll": 0.3}}, "mit"
    )
    assert address == f"hf://owner/birds@{server.heads['owner/birds']}"
    assert any(call.startswith("PUT /lfs/") for call in server.calls)
    for name in ("hf://owner/birds", address):
        loaded = zoo.load(name)
        assert loaded.class_names == NAMES and loaded.resize == "squash"
        np.testing.assert_allclose(
            zoo.predict(loaded, images).members, zoo.predict(model, images).members, atol=1e-6
        )
    files = server.find("owner/birds", "main")[1]
    assert {"config.json", "metadata.json", "model.weights.h5", "README.md", "zoo.json"} <= set(files)


def test_the_card_is_in_the_hubs_format(model):
    from huggingface_hub import ModelCard

    text = hub.model_card(model, "owner/birds", {"birds": {"accuracy": 0.91, "nll": 0.3}}, "mit")
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "keras",
        "image-classification",
        "mit",
    )
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"accuracy": 0.91, "nll": 0.3} and data.eval_results[0].dataset_name == "birds"
    assert "| birds | 0.91 | 0.3 |" in text and "cat, dog, owl" in text
    assert 'zoo.load("hf://owner/birds")' in text
    assert ModelCard(hub.model_card(model, "owner/birds")).data.eval_results is None


@pytest.mark.slow
def test_a_revision_pins_the_version(server, model, tiny, images):
    first = zoo.save_to_hub(model, "hf://owner/birds")
    second = zoo.save_to_hub(tiny(), "hf://owner/birds")
    assert first != second
    expected = zoo.predict(model, images).members
    np.testing.assert_allclose(zoo.predict(zoo.load(first), images).members, expected, atol=1e-6)
    assert not np.allclose(zoo.predict(zoo.load("hf://owner/birds"), images).members, expected)


def test_keras_reads_the_repository_too(model, images, tmp_path):
    hub.write_folder(model, tmp_path, "owner/birds")
    loaded = keras.saving.load_model(tmp_path)
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


@pytest.mark.slow
def test_changed_files_are_refused(server, model, raises_line):
    zoo.save_to_hub(model, "hf://owner/birds")
    _, files = server.find("owner/birds", "main")
    config = files["config.json"].replace(b'"resize": "squash"', b'"resize": "crop"')
    assert config != files["config.json"]
    server.commit("owner/birds", {**files, "config.json": config})
    with raises_line(
        zoo.WeightsError, "config.json has been changed, its sha256 is not the recorded one"
    ):
        zoo.load("hf://owner/birds")
    server.commit("owner/birds", {**files, "zoo.json": b"[]"})
    with raises_line(zoo.WeightsError, "damaged zoo.json"):
        zoo.load("hf://owner/birds")
    record = json.loads(files["zoo.json"])
    assert set(record["files"]) == {"config.json", "metadata.json", "model.weights.h5"}


def test_what_is_not_there_is_told_in_one_line(server, model, raises_line):
    with raises_line(FileNotFoundError, "hf://owner/none cannot be downloaded"):
        zoo.load("hf://owner/none")
    zoo.save_to_hub(model, "hf://owner/birds")
    with raises_line(FileNotFoundError, "hf://owner/birds@nowhere cannot be downloaded"):
        zoo.load("hf://owner/birds@nowhere")
    server.commit("owner/text", {"README.md": b"no model"})
    with raises_line(FileNotFoundError, "no config.json: it is not a model that Keras saved"):
        zoo.load("hf://owner/text")


@pytest.mark.parametrize("address", ["owner/name", "hf://name", "hf://a/b/c", "hf://a/b@"])
def test_addresses_have_an_owner_and_a_name(address, model, raises_line):
    with raises_line(ValueError, "an address on the hub is hf://owner/name"):
        zoo.save_to_hub(model, address)


def test_other_models_are_refused(raises_line):
    with raises_line(ValueError, "takes an EnsembleClassifier; got Sequential"):
        zoo.save_to_hub(keras.Sequential(), "hf://owner/name")
    with raises_line(ValueError, "load it without other arguments"):
        zoo.load("hf://owner/name", num_classes=3)

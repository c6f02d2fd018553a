"""`zoo predict`: the table, the CSV file, the page, decisions and exit statuses."""

import base64
import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import cli
from zoo.commands import predict, prediction_page

NAMES = ["cat", "dog", "owl"]


@pytest.fixture
def folder(tmp_path):
    """Twelve photographs of two sizes in folders of three classes."""
    rng = np.random.default_rng(8)
    for name in NAMES:
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for index in range(4):
            size = (30, 20) if index % 2 else (16, 24)
            image = Image.fromarray(rng.integers(0, 256, (*size, 3), "uint8"))
            image.save(tmp_path / "photographs" / name / f"{index}.png")
    return tmp_path / "photographs"


@pytest.fixture
def saved(tiny, tmp_path):
    model = tiny(resize="crop")
    model.class_names = NAMES
    model.save(tmp_path / "model.keras")
    return model, str(tmp_path / "model.keras")


def test_the_table_says_what_to_do_with_each_image(saved, folder, tmp_path, capsys):
    model, path = saved
    prediction = zoo.predict(model, folder)
    value = float(np.median(prediction.confidence))
    status = cli.main(
        ["predict", path, str(folder), "--threshold", str(value), "--csv", str(tmp_path / "a.csv")]
    )
    assert status == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "name", "probability", "uncertainty", "decision"]
    for i, line in enumerate(lines[1:13]):
        decision = "answer" if prediction.confidence[i] >= value else "ask a person"
        path, name, *numbers = line.split()[:4]
        assert [path, name] == [str(prediction.paths[i]), prediction.names[i]]
        assert all(re.fullmatch(r"\d\.\d{3}", number) for number in numbers)
        expected = [prediction.confidence[i], prediction.entropy[i]]
        assert list(map(float, numbers)) == pytest.approx(
            expected, abs=6e-4
        )  # rounded, of a loaded model
        assert line.strip().endswith(decision)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [row["name"] for row in rows] == prediction.names.tolist()
    assert [row["decision"] == "answer" for row in rows] == (prediction.confidence >= value).tolist()
    assert float(rows[3]["mutual_information"]) == pytest.approx(
        prediction.mutual_information[3], abs=1e-4
    )


def test_without_a_threshold_nothing_is_decided(saved, folder, capsys):
    assert cli.main(["predict", saved[1], str(folder / "cat")]) == 0
    out = capsys.readouterr().out
    assert "decision" not in out and "ask a person" not in out and len(out.splitlines()) == 5
    assert cli.main(["predict", saved[1], str(folder / "cat"), "--threshold"]) == 0
    assert capsys.readouterr().out.count("ask a person") == 4


def test_the_page_shows_thumbnails_least_certain_first(saved, folder, tmp_path, capsys):
    model, path = saved
    page = tmp_path / "page.html"
    assert cli.main(["predict", path, str(folder), "--threshold", "0.5", "--html", str(page)]) == 0
    text = page.read_text()
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    shown = [float(value) for value in re.findall(r"entropy ([\d.]+) nats", text)]
    assert len(shown) == 12 and shown == sorted(shown, reverse=True)
    assert text.count('src="data:image/jpeg;base64,') == 12 and "http" not in text
    answered = int((zoo.predict(model, folder).confidence >= 0.5).sum())
    assert f"{answered} answered by the model, {12 - answered} for a person" in text


def test_the_page_tells_turned_photographs_and_numbers_classes_without_names(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20), "navy").save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20), "navy").save(tmp_path / "upright.jpg")
    paths = [str(tmp_path / name) for name in ("turned.jpg", "upright.jpg")]
    prediction = zoo.Prediction(np.full((2, 1, 3), [0.7, 0.2, 0.1]), paths=paths)
    prediction_page.write(prediction, None, tmp_path / "page.html", "model")
    turned, upright = (tmp_path / "page.html").read_text().split("<li>")[1:]
    assert "stored turned" in turned and "stored turned" not in upright
    assert "<b>class 0</b> 70%" in upright and "then class 1 20%, class 2 10%" in upright


def test_thumbnails_of_16_bits_are_as_bright_as_the_photograph(tmp_path):
    Image.fromarray(np.full((20, 30), 100 * 257, "uint16")).save(tmp_path / "grey.png")
    encoded = prediction_page._thumbnail(tmp_path / "grey.png").partition("base64,")[2]
    np.testing.assert_allclose(Image.open(io.BytesIO(base64.b64decode(encoded))), 100, atol=3)


def test_what_cannot_be_drawn_is_an_empty_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("1", (20, 20)).save(tmp_path / "bomb.png")
    for name in ("bomb.png", "gone.png"):
        assert prediction_page._thumbnail(tmp_path / name) == prediction_page.EMPTY
    empty = base64.b64decode(prediction_page.EMPTY.partition("base64,")[2])
    assert Image.open(io.BytesIO(empty)).size == (1, 1)


def test_names_are_printed_as_they_are_but_for_control_characters(capsys):
    names = ["a[b]c.png", "[red]x.png", ":smile:.png", "dir[/sub].png", "[/].png", "\x1b[31mred\n.png"]
    members = np.tile([0.9, 0.1], (len(names), 1, 1))
    predict._print(predict.table(zoo.Prediction(members, class_names=["[b]cat", "dog"], paths=names)))
    shown = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == [[name, "[b]cat"] for name in [*names[:-1], "?[31mred?.png"]]


def test_names_that_are_not_text_are_written(tmp_path, capsys):
    prediction = zoo.Prediction(np.ones((1, 1, 1)), paths=["caf\udce9.png"])
    predict._print(predict.table(prediction))
    predict._write_csv(predict.table(prediction), tmp_path / "a.csv")
    prediction_page.write(prediction, None, tmp_path / "a.html", "title")
    assert "caf?.png" in capsys.readouterr().out
    assert b"caf\xe9.png" in (tmp_path / "a.csv").read_bytes()
    assert b"caf?.png" in (tmp_path / "a.html").read_bytes()


def test_images_of_another_size_are_told_of_the_option(tiny, folder, tmp_path, capsys):
    tiny().save(tmp_path / "model.keras")
    assert cli.main(["predict", str(tmp_path / "model.keras"), str(folder / "cat")]) == 2
    said = capsys.readouterr().err
    assert "this model takes 16x16: pass --resize=crop or --resize=squash, or resize the images" in said
    assert len(said.splitlines()) == 1


def test_files_that_cannot_be_read_are_told_and_the_others_answered(saved, folder, capsys):
    (folder / "cat" / "1.png").write_bytes(b"no image")
    assert cli.main(["predict", saved[1], str(folder / "cat")]) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4 and "1.png" not in captured.out
    assert len(captured.err.splitlines()) == 1 and "1.png cannot be read as an image" in captured.err


def test_labelled_photographs_give_the_threshold(saved, folder, capsys):
    assert cli.main(["predict", saved[1], str(folder), "--labelled", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "No threshold can be shown to reach 95.0% accuracy with 95% confidence on 12 images" in out
    assert out.count("ask a person") == 12


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["packed_lenet", "nowhere.jpg"], "no file or folder nowhere.jpg"),
        (["nothing.keras", "."], "no file nothing.keras"),
        (["packed_resnet2000", "."], "unknown model"),
        (["packed_lenet", ".", "--threshold", "95"], "confidence in [0, 1]; got 95"),
        (["packed_lenet", ".", "--accuracy", "nan"], "a share between 0 and 1; got nan"),
        (["packed_lenet", ".", "--accuracy", "1"], "a share between 0 and 1; got 1.0"),
        (["packed_lenet", ".", "--threshold", "0.5", "--labelled", "."], "not both"),
        (["packed_lenet", ".", "--labelled", "nowhere"], "no file or folder nowhere"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(arguments, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", *arguments]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and hint in captured.err and not captured.out


def test_labelled_folders_must_bear_the_names_of_the_classes(saved, folder, capsys):
    (folder / "owl").rename(folder / "fox")
    assert cli.main(["predict", saved[1], str(folder), "--labelled", str(folder)]) == 2
    assert "not all named after a class of the model: cat, dog, owl" in capsys.readouterr().err

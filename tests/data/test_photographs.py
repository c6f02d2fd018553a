"""Images as they come: folders, files, Pillow images, arrays of mixed sizes and data sets."""

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.data import photographs, pixels
from zoo.data.pixels import from_pillow, read
from zoo.data.resizing import resized

NAMES = ["cat", "dog", "owl"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine photographs of three sizes and four formats in three folders of classes, and a file that is not an image."""
    rng = np.random.default_rng(4)
    root = tmp_path_factory.mktemp("photographs")
    for name in NAMES:
        (root / name).mkdir()
        for index, (size, suffix) in enumerate(
            (((30, 22), "jpg"), ((20, 40), "PNG"), ((18, 18), "bmp"))
        ):
            pixels = rng.integers(0, 256, (*size, 3), "uint8")
            Image.fromarray(pixels).save(root / name / f"{2 - index}.{suffix}")
    (root / "dog" / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def model(tiny):
    model = tiny(resize="crop")
    model.class_names = NAMES
    return model


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_a_folder_has_the_pixels_of_the_data_set_that_fit_reads(resize, folder, model):
    model.resize = resize
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(16, 16), crop_to_aspect_ratio=resize == "crop", batch_size=4, shuffle=False,
        verbose=False,
    )  # fmt: skip
    images = photographs.open_images(folder, (16, 16, 3), resize)
    given = np.concatenate(list(images.batches(4)))
    expected = np.concatenate([np.asarray(x) for x, _ in dataset])
    np.testing.assert_allclose(given, expected, atol=1e-3)
    assert [str(path) for path in images.paths] == list(dataset.file_paths)

    one, other = zoo.predict(model, folder), zoo.predict(model, dataset, progress=False)
    np.testing.assert_allclose(one.members, other.members, atol=1e-5)
    np.testing.assert_array_equal(one.targets, np.repeat([0, 1, 2], 3))
    np.testing.assert_array_equal(one.targets, other.targets)
    assert one.paths == images.paths and other.paths is None


@pytest.fixture
def turned(tmp_path):
    """A photograph that viewers turn by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(7).integers(0, 256, (20, 12, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    return tmp_path / "turned.jpg"


def test_photographs_that_are_stored_turned_are_answered_as_stored_with_a_warning(turned, model):
    pixels = read(turned, 3)
    with Image.open(turned) as image:
        by_pillow = np.asarray(image)
    assert pixels.shape == by_pillow.shape == (20, 12, 3)
    for given, stored in ((turned, pixels), ([turned], pixels), (Image.open(turned), by_pillow)):
        expected = zoo.predict(model, [stored]).members
        with pytest.warns(UserWarning, match=r"stored turned .*: 1; they") as warned:
            np.testing.assert_allclose(zoo.predict(model, given).members, expected, atol=1e-5)
        assert [warning.filename for warning in warned] == [__file__]


def test_other_photographs_are_not_warned_of(turned, folder, model, recwarn):
    damaged = turned.with_name("damaged.jpg")
    damaged.write_bytes(turned.read_bytes().replace(b"Exif\0\0MM", b"Exif\0\0??"))
    assert len(zoo.predict(model, [damaged, folder])) == 10
    assert not [warning for warning in recwarn if "turned" in str(warning.message)]


def test_hidden_files_and_other_kinds_are_left_out(tmp_path):
    for name in (
        "b/.hidden.jpg", "b/notes.txt", "b/2.PNG", "b/10.jpeg", "a.webp", ".DS_Store", ".thumbs/c.png",
        "b/.thumbs/d.png",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in photographs.files(tmp_path)]
    assert names == ["a.webp", "b/10.jpeg", "b/2.PNG"]


def column(files):
    """A `pandas.Series` of paths, with numbers of its own for them."""
    pandas = pytest.importorskip("pandas")
    return pandas.Series([str(path) for path in files], index=range(7, 7 + len(files)))


def test_every_kind_of_image_is_answered_alike(folder, model):
    files = photographs.files(folder / "dog")[:2]  # no JPEG: decoders differ by a few grey levels
    pillow = [Image.open(path) for path in files]
    arrays = [np.asarray(image) for image in pillow]
    expected = zoo.predict(model, np.concatenate([resized(a[None], (16, 16), "crop") for a in arrays]))
    kinds = [files, [str(path) for path in files], pillow, arrays, [files[0], arrays[1]], tuple(arrays)]
    kinds.append([array.astype("float64") for array in arrays])
    kinds += [iter(files), (str(path) for path in files), iter(pillow), dict.fromkeys(files)]
    kinds += [np.array(files), np.array([str(path) for path in files]), column(files)]
    for kind in kinds:
        np.testing.assert_allclose(zoo.predict(model, kind).members, expected.members, atol=1e-5)
    for single in (files[0], str(files[0]), pillow[0], arrays[:1], arrays[0][None]):
        np.testing.assert_allclose(zoo.predict(model, single).members, expected.members[:1], atol=1e-5)
    np.testing.assert_allclose(
        zoo.predict(model, files, batch_size=1).members, expected.members, atol=1e-5
    )


def test_iterators_of_files_have_their_paths_and_labels(folder, model):
    prediction = zoo.predict(model, (folder / name for name in ("owl", "cat")))
    assert prediction.targets.tolist() == [2, 2, 2, 0, 0, 0]
    assert prediction.paths == photographs.files(folder / "owl") + photographs.files(folder / "cat")


def test_targets_need_folders_named_after_the_classes(folder, model):
    model.class_names = ["cat", "dog", "fox"]
    assert zoo.predict(model, folder).targets is None
    assert zoo.predict(model, folder / "cat").targets.tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "I"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_images_of_every_mode_become_grey_or_colour(mode, channels):
    level = 200 * 257 if mode.startswith("I") else 255 if mode == "1" else 200
    if mode.startswith("I"):
        image = Image.fromarray(np.full((5, 4), level, "uint16" if mode == "I;16" else "int32"))
        assert image.mode == mode
    else:
        image = Image.new("L", (4, 5), level).convert(mode)
    pixels = from_pillow(image, channels)
    assert pixels.shape == (5, 4, channels) and pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels, 255 if mode == "1" else 200, atol=3)


def test_integers_of_32_bits_are_bytes_or_16_bits(raises_line):
    image = np.array([[0, 3, 255]], "int32")
    assert from_pillow(Image.fromarray(image), 1).ravel().tolist() == [0, 3, 255]
    assert from_pillow(Image.fromarray(image * 257), 1).ravel().tolist() == [0, 3, 255]
    for other in (image - 1, image * 258):
        with raises_line(ValueError, f"values run from {other.min()} to {other.max()}; scale them to"):
            from_pillow(Image.fromarray(other), 1)


def test_floats_are_pixels_or_refused(model, tmp_path, raises_line):
    image = np.full((20, 20), 90.0, "float32")
    assert from_pillow(Image.fromarray(image), 3).mean() == 90
    for other, said in ((image * np.nan, "NaN or infinite"), (image * 10, "run from 0 to 900"), (image / 255, "to 0.35"),
                        (image - 99, "from -9")):  # fmt: skip
        Image.fromarray(other).save(tmp_path / "float.tiff")
        for given in (Image.fromarray(other), tmp_path / "float.tiff"):
            with raises_line(ValueError, said):
                zoo.predict(model, [given])


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "bmp"), ("P", "gif"), ("CMYK", "jpg")])
def test_files_that_tensorflow_does_not_read_in_grey_are_read_by_pillow(mode, suffix, tmp_path):
    Image.new("L", (6, 5), 180).convert(mode).save(tmp_path / f"grey.{suffix}")
    np.testing.assert_allclose(read(tmp_path / f"grey.{suffix}", 1), 180, atol=3)


def test_files_that_tensorflow_reads_are_left_to_it(folder, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(pixels, "from_pillow", None)
    assert {read(path, 3).shape[-1] for path in photographs.files(folder)} == {3}


def test_formats_that_keras_does_not_read_are_read_too(tmp_path):
    for suffix in ("webp", "tiff", "gif"):
        Image.new("RGB", (6, 5), (250, 20, 20)).save(tmp_path / f"red.{suffix}")
        pixels = read(tmp_path / f"red.{suffix}", 3)
        assert pixels.shape == (5, 6, 3) and pixels[..., 0].min() > 200 and pixels[..., 1].max() < 80


def bad_file(tmp_path, content=b"no image"):
    (tmp_path / "broken.jpg").write_bytes(content)
    return tmp_path


BAD = {
    "nothing": (lambda tmp: tmp / "none.jpg", FileNotFoundError, "no file or folder .*none.jpg"),
    "empty": (lambda tmp: tmp, ValueError, "holds no images"),
    "broken": (bad_file, ValueError, r"broken.jpg cannot be read as an image \([^{\[(]+\); repair"),
    "hollow": (
        lambda tmp: bad_file(tmp, b""),
        ValueError,
        r"broken.jpg cannot be .* \([^{\[(]+\); repair",
    ),
    "none": (lambda _: None, ValueError, "images must be arrays, files, Pillow images or .*; got None"),
    "a number": (lambda _: 5, ValueError, "images must be arrays, files, Pillow images or .*; got 5"),
    "narrow": (
        lambda _: Image.new("RGB", (0, 9)),
        ValueError,
        r"image 0 has .*\(9, 0, 3\), which has no pixels",
    ),
    "flat": (
        lambda _: [np.zeros((0, 9, 3), "uint8")],
        ValueError,
        "image 0 has .* no pixels; leave it out",
    ),
    "channels": (lambda _: [np.zeros((9, 9, 1), "uint8")], ValueError, r"image 0 has shape \(9, 9, 1\)"),
    "nan": (lambda _: [np.full((9, 9, 3), np.nan)], ValueError, "image 0 holds NaN"),
    "words": (lambda _: [np.full((9, 9, 3), "a")], ValueError, "dtype <U1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_images_are_refused_by_name(kind, model, tmp_path, raises_line):
    make, error, pattern = BAD[kind]
    with raises_line(error, pattern):
        zoo.predict(model, make(tmp_path))


def test_a_model_that_does_not_resize_names_the_image(folder, model, raises_line):
    model.resize = None
    with raises_line(
        ValueError, '0.bmp is 18x18, and this model takes 16x16: set model.resize to "crop"'
    ):
        zoo.predict(model, folder)


def test_a_data_set_of_single_images_says_what_to_do(model, raises_line):
    with raises_line(ValueError, r"single images; batch it, as by dataset.batch\(32\)"):
        zoo.predict(model, iter([np.zeros((16, 16, 3))]), progress=False)

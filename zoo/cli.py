"""The `zoo` command."""

import argparse
import os
import sys
import warnings
from typing import Any

from zoo import command_errors
from zoo.commands import app, arguments, predict
from zoo.commands.silence import silence
from zoo.errors import one_line


def main(arguments: Any = None) -> int:
    """Run the `zoo` command.

    Args:
        arguments: list of str. Default: None, those of the command line.

    Returns:
        The exit status: 0; 1 if `zoo predict` answered but could not read some of the files; 2 after an
        error, which is one line; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    if arguments is None:  # a process of its own
        silence()
        warnings.showwarning = command_errors.show_warning
    try:
        status = options.run(options)
    except BrokenPipeError:  # `zoo list | head`
        sys.stdout = None
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return command_errors.report(error)
    return status or 0


def _parser():
    parser = command_errors.Parser(prog="zoo", description="Efficient ensembles for Keras 3.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_list, _add_card, _add_predict, _add_app, _add_demo, _add_evaluate, _add_benchmark, _add_doctor,
        _add_export,
    ):  # fmt: skip
        add(commands)
    return parser


_INPUT_SHAPE = "height,width,channels of the images, such as 32,32,3"


def _add_list(commands):
    command = commands.add_parser("list", help="list the models, and the scores of those with weights")
    command.add_argument("--method", help="only models of this method, such as packed")
    command.add_argument("--backbone", help="only models with this backbone, such as resnet18")
    command.add_argument("--dataset", help="only models with weights trained on this data set")
    command.set_defaults(run=_list)


def _add_card(commands):
    command = commands.add_parser("card", help="print a model's metrics, cost, recipe and hashes")
    command.add_argument("name", metavar="NAME", help="a model's name, such as packed_resnet20")
    command.add_argument(
        "--weights",
        help="a data set's name or a folder; without it, the command asks if there are several",
    )
    command.add_argument(
        "--latency", action="store_true", help="time the model and the single network on this machine"
    )
    command.set_defaults(run=_card)


def _add_predict(commands):
    command = commands.add_parser(
        "predict",
        help="classify photographs, and mark those that a person should check",
        epilog="Exit status: 0, all images answered; 1, some files could not be read; 2, an error.",
    )
    predict.add_arguments(command)
    command.set_defaults(run=predict.run)


def _add_app(commands):
    command = commands.add_parser("app", help="serve a local page that classifies photographs")
    app.add_arguments(command)
    command.set_defaults(run=app.run)


def _add_demo(commands):
    command = commands.add_parser(
        "demo", help="fine-tune, calibrate and export an ensemble on real images, offline"
    )
    command.add_argument("--output", default="demo", help="folder for pictures and the SavedModel")
    command.add_argument("--model", default="packed_resnet20", help="the ensemble")
    command.add_argument("--epochs", type=int, default=3, help="epochs of fine-tuning")
    command.set_defaults(run=_demo)


def _add_evaluate(commands):
    command = commands.add_parser(
        "evaluate", help="score several models side by side, and write a report"
    )
    command.add_argument(
        "names", nargs="+", metavar="NAME", help="a model's name, or the folder of a run"
    )
    command.add_argument("--dataset", required=True, help="the data set that they were trained on")
    command.add_argument("--data_dir", required=True, help="folder of the data sets")
    command.add_argument("--report", required=True, help="folder to write the report to")
    command.add_argument(
        "--corrupted", type=int, default=1000, help="test images to corrupt in 75 ways; 0: none"
    )
    command.add_argument(
        "--rounds", type=int, default=20, help="timed calls of each model, for its latency; 0: none"
    )
    command.set_defaults(run=_evaluate)


def _add_doctor(commands):
    command = commands.add_parser(
        "doctor", help="find the fastest backend and settings for this machine"
    )
    command.add_argument("--backbone", default="resnet20", help="the network to measure")
    command.add_argument("--input_shape", type=_integers, default=(32, 32, 3), help=_INPUT_SHAPE)
    command.add_argument("--train_batch_size", type=int, default=64, help="images per training step")
    command.add_argument("--seconds", type=float, default=10, help="seconds to time each setting for")
    command.set_defaults(run=_doctor)


def _add_export(commands):
    command = commands.add_parser(
        "export", help="write a model as a SavedModel, LiteRT, ONNX or OpenVINO file"
    )
    command.add_argument("name", metavar="NAME", help="a model's name or a .keras file")
    command.add_argument(
        "directory", metavar="DIRECTORY", help="folder to write the file or SavedModel to"
    )
    command.add_argument("--weights", default="default", help="a data set's name or a folder")
    command.add_argument(
        "--format", choices=("savedmodel", "litert", "onnx", "openvino"), default="savedmodel",
        help="kind of file to write; savedmodel by default",
    )  # fmt: skip
    command.add_argument(
        "--quantize", choices=("float16", "int8"), help="type of the weights in a LiteRT file"
    )
    command.add_argument(
        "--representative", help="for int8: .npy of images, or .npz with x_train; the first 200 are used"
    )
    command.add_argument(
        "--optimize",
        action="store_true",
        help="fold normalisations into convolutions, and compare the outputs with the model's",
    )
    command.set_defaults(run=_export)


def _add_benchmark(commands):
    command = commands.add_parser(
        "benchmark", help="measure what methods cost, side by side: times, memory, sizes"
    )
    command.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="models of one backbone, instead of --backbone and --methods",
    )
    command.add_argument("--backbone", help="by default that of the names, or resnet18")
    command.add_argument(
        "--methods",
        type=_words,
        help="such as single,packed,packed:alpha=3:gamma=2; all of them by default",
    )
    command.add_argument(
        "--weights", help="a data set's name: measure the published models trained on it, not new ones"
    )
    command.add_argument("--input_shape", type=_integers, default=(32, 32, 3), help=_INPUT_SHAPE)
    command.add_argument("--num_members", type=int, default=4, help="members of all methods but MIMO")
    command.add_argument(
        "--batch_sizes", type=_integers, default=(1, 32, 128), help="images per call of inference"
    )
    command.add_argument("--train_batch_size", type=int, default=64, help="images per training step")
    command.add_argument(
        "--precision",
        default="float32",
        help="float32, bfloat16, float16 (weights in float32) or float64",
    )
    command.add_argument("--rounds", type=int, default=20, help="timed calls of each model, at most")
    command.add_argument("--seconds", type=float, default=900, help="seconds for warm-up and rounds")
    command.add_argument(
        "--peer", help="another library to measure in the same rounds: torch-uncertainty"
    )
    command.add_argument(
        "--peer_python", help="the Python interpreter that has the peer installed; this one by default"
    )
    command.add_argument(
        "--times_only",
        action="store_true",
        help="skip memory, sizes, imports and loading, which need fresh processes",
    )
    command.add_argument("--output", default="benchmark", help="folder of benchmark.json, .md and .png")
    command.set_defaults(run=_benchmark)


def _list(options):
    from rich.console import Console
    from rich.table import Table

    from zoo import registry

    table = Table("model", "trained on", "accuracy", "NLL", "ECE", "parameters", "MACs", box=None)
    for name in registry.list_models(options.method, options.backbone, options.dataset):
        entries = registry.entries(name)
        for entry in entries:
            if options.dataset not in (None, entry["dataset"]):
                continue
            metrics = entry["metrics"][entry["dataset"]]
            table.add_row(
                name, entry["dataset"], *(f"{metrics[key]:.4f}" for key in ("accuracy", "nll", "ece")),
                registry.parameters(entry), f"{entry['macs']:,}",
            )  # fmt: skip
        if registry.starts_from_imagenet(name):
            table.add_row(name, "imagenet, by the extra")
        elif not entries:
            table.add_row(name, "no weights yet")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _card(options):
    from zoo.cards import card

    weights = options.weights
    if weights is None:
        weights = _chosen_dataset(options.name)
    print(card(options.name, weights, options.latency))


def _chosen_dataset(name):
    """The data set whose weights are meant where a name has several; asked on a terminal."""
    from zoo import registry

    datasets = [entry["dataset"] for entry in registry.entries(name)]
    if len(datasets) < 2:
        return "default"
    choices = ", ".join(datasets)
    if not sys.stdin.isatty():
        print(
            f"zoo: {name} has weights of {choices}; this shows {datasets[0]}, choose with --weights",
            file=sys.stderr,
        )
        return datasets[0]
    while True:
        answer = input(f"{name} has weights of {choices}. Which? [{datasets[0]}] ").strip()
        if not answer or answer in datasets:
            return answer or datasets[0]


def _check_backbone(name):
    from zoo import registry

    if name is not None and name not in registry.BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; there are {', '.join(registry.BACKBONES)}")


def _demo(options):
    arguments.check_model(options.model)
    if options.epochs < 1:
        raise ValueError(f"--epochs must be at least 1; got {options.epochs}")
    from zoo.demo import demo

    demo(options.model, options.output, options.epochs)


def _evaluate(options):
    from zoo.evaluation import preflight

    preflight.check(  # before TensorFlow is imported
        options.names, options.dataset, options.data_dir, options.report, options.corrupted,
        options.rounds,
    )  # fmt: skip
    from zoo.evaluation.evaluate import evaluate

    evaluate(
        options.names, options.dataset, options.data_dir, options.report, options.corrupted,
        rounds=options.rounds,
    )  # fmt: skip
    print(os.path.join(options.report, "report.html"))


def _benchmark(options):
    _check_backbone(options.backbone)
    from zoo.benchmarking.command import run

    run(options)


def _doctor(options):
    _check_backbone(options.backbone)
    _check_measured(options)
    from zoo.benchmarking import doctor

    found = doctor.diagnose(
        options.backbone, options.input_shape, train_batch_size=options.train_batch_size,
        seconds=options.seconds, say=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    print(doctor.report(found))


def _check_measured(options):
    """Refuse what `zoo doctor` cannot measure."""
    shape = options.input_shape
    if len(shape) != 3 or min(shape) < 1:
        given = ",".join(map(str, shape))
        raise ValueError(f"--input_shape must be three integers >= 1, such as 32,32,3; got {given}")
    if options.train_batch_size < 1:
        raise ValueError(f"--train_batch_size must be at least 1; got {options.train_batch_size}")
    if not 0 < options.seconds < float("inf"):
        raise ValueError(f"--seconds must be a finite number above 0; got {options.seconds:g}")


def _words(text):
    words = tuple(filter(None, text.split(",")))
    if not words:
        raise argparse.ArgumentTypeError(f"takes words separated by commas; got {text!r}")
    return words


def _integers(text):
    return tuple(int(word) for word in text.split(","))


def _export(options):
    arguments.check_model(options.name)
    import zoo

    model = arguments.load_model(options.name, options.weights)
    images = options.representative and _images(options.representative)
    path = zoo.export(
        model, options.directory, options.format, options.quantize, images, options.optimize
    )
    size = f"  {path.stat().st_size:,} bytes" if path.is_file() else ""
    print(f"{path}{size}")


def _images(path):
    """The first 200 images of a file, with a channel axis."""
    import numpy as np

    from zoo.files.json_files import check_regular

    check_regular(path)
    try:
        images = np.load(path, mmap_mode="r")  # a .npy is never read as a whole
        if path.endswith(".npz"):
            images = images["x_train"]
        images = np.array(images[:200])
    except KeyError:
        raise ValueError(f"{path} has no x_train; pass images as .npy") from None
    except Exception as error:  # what a damaged array raises may be anything
        raise ValueError(f"{path} holds no images ({one_line(error)}); pass images as .npy") from None
    return images[..., None] if images.ndim == 3 else images


if __name__ == "__main__":
    sys.exit(main())

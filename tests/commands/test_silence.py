"""Commands print nothing of TensorFlow, absl or Keras, and refuse bad arguments at once and in one line."""

import json
import re

import pytest

from zoo.commands.silence import is_noise

LIBRARIES = re.compile(
    r"^[IWEF]\d{4} |absl|tensorflow|oneDNN|XLA|cuda|cuInit|keras.src|TFLite|XNNPACK|UserWarning|Future"
    r"Warning|DeprecationWarning",
    re.IGNORECASE | re.MULTILINE,
)

WRITES = """
import os, subprocess, sys
from zoo.commands.silence import silence
silence()
os.write(2, b"I0000 00:00:1.5 8512 port.cc:153] oneDNN custom operations are on.\\n")
os.write(2, b"out of memory\\n")
os.write(2, b"F0000 00:00:1.5 8512 check.cc:1] Check failed\\n")
print("a warning of ours", file=sys.stderr)
subprocess.run([sys.executable, "-c", "import os; os.write(2, b'W0000 00:00:1 8 a.cc:1] x\\\\nof a child')"])
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    "line",
    [
        b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        b"I0000 00:00:1795921113.973642    8512 port.cc:153] oneDNN custom operations are on.",
        b"W0000 00:00:1795921113.973642    8512 tf_tfl_flatbuffer_helpers.cc:365] Ignored output_format.",
        b"2024-10-30 10:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations",
        b"E0000 00:00:1795921152.728063    8792 cuda_platform.cc:52] failed call to cuInit: INTERNAL",
        b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
        b"Unsupported color conversion request",
        b"Unsupported marker type 0xff",
    ],
)
def test_log_lines_are_noise(line):
    assert is_noise(line)


@pytest.mark.parametrize(
    "line",
    [
        b"E0000 00:00:1795921152.728063    8792 bfc_allocator.cc:52] ran out of memory",
        b"F0000 00:00:1795921152.728063    8792 tensor.cc:10] Check failed: 1 == 2",
        b"Traceback (most recent call last):",
        b"UserWarning: the images look like [0, 1]",
        b"epoch 1/2   50%  accuracy 0.5",
    ],
)
def test_what_matters_is_kept(line):
    assert not is_noise(line)


def test_a_failing_gpu_driver_is_no_noise():
    line = b"E0000 00:00:1795921152.728063    8792 cuda_platform.cc:52] failed call to cuInit: UNKNOWN"
    assert is_noise(line) and not is_noise(line, has_gpu=True)


def test_other_lines_pass_even_when_the_process_is_killed(python):
    process = python("-c", WRITES, succeeds=False, TF_CPP_MIN_LOG_LEVEL="2")
    assert sorted(process.stderr.splitlines()) == [
        "F0000 00:00:1.5 8512 check.cc:1] Check failed", "a warning of ours", "of a child", "out of memory",
    ]  # fmt: skip


def test_everything_is_shown_on_request(python):
    assert "oneDNN" in python("-c", WRITES, succeeds=False, TF_CPP_MIN_LOG_LEVEL="0").stderr


@pytest.fixture
def command(python, monkeypatch, tmp_path):
    """Run a command as a shell would, without the settings of the tests; `zoo` or a training script."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)

    def run(script, *arguments, **options):
        module = "zoo.cli" if script == "zoo" else f"zoo.training.{script}"
        return python("-m", module, *arguments, **options)

    return run


@pytest.fixture(scope="module")
def without_tensorflow(tmp_path_factory):
    """A folder to import from, in which importing TensorFlow ends the process."""
    folder = tmp_path_factory.mktemp("imports")
    for package in ("tensorflow", "keras"):
        (folder / f"{package}.py").write_text(
            "raise SystemExit(f'{__name__} was imported, for seconds')\n"
        )
    return folder


NO_DATA = ("--data_dir=nowhere", "--output_dir=run")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("zoo", "evaluate", "single_lenet", "--dataset=mnist", "--data_dir=no", "--report=r"),
            "no folder",
        ),
        (("train", "--recipe=mnist_packed_lenet", *NO_DATA), "no folder nowhere"),
        (("train", "--recipe=mnist_packed_lenet", "--data_dir=.", "--output_dir=run"), "no mnist in"),
        (("train",), "--recipe must be given"),
        (("members", "--recipe=mnist_deep_ensemble_lenet", *NO_DATA), "no folder nowhere"),
        (("publish", "nowhere"), "nowhere"),
    ],
)
def test_a_failing_command_is_one_line_and_quick(arguments, said, command, without_tensorflow):
    process = command(*arguments, succeeds=False, PYTHONPATH=str(without_tensorflow))
    assert process.returncode == 2 and said in process.stderr
    assert "was imported" not in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1 and not process.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("tickets", "--recipe=mnist_edst_tickets_lenet", *NO_DATA),
        ("hyper_deep", "--recipe=mnist_single_lenet", *NO_DATA),
        ("join_runs", "--runs=a,b", *NO_DATA),
        ("join_runs",),
        ("zoo", "export", "none.keras", "out"),
        ("zoo", "benchmark", "--backbone=nope"),
        ("zoo", "doctor", "--backbone=nope"),
        ("zoo", "demo", "--epochs=0"),
        ("train", "--recipe=mnist_packed_lenet", "--epoch=3"),
        ("train", "--recipe=mnist_packed_lenet", "unexpected"),
        ("train", "--recipe=mnist_lenet", *NO_DATA),
        ("studies.batch_ensemble_diversity", *NO_DATA),
        ("studies.method_table", "--report=nowhere", "--backbone=lenet"),
        ("zoo", "evaluate", "no_lenet", "--dataset=mnist", "--data_dir=.", "--report=r"),
    ],
)
def test_other_failing_commands_are_as_short(arguments, command, without_tensorflow):
    test_a_failing_command_is_one_line_and_quick(arguments, "", command, without_tensorflow)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("zoo", "evaluate", "packed_lenet", "--dataset=mnist", "--data_dir=DATA", "--report=report",
         "--corrupted=1", "--rounds=1"),
        ("train", "--recipe=mnist_packed_lenet", "--data_dir=DATA", "--output_dir=run", "--epochs=1",
         "--batch_size=32"),
        ("train", "--recipe=mnist_packed_lenet", "--dry_run"),
        ("members", "--recipe=mnist_deep_ensemble_lenet", "--num_members=2", "--data_dir=DATA",
         "--output_dir=members", "--epochs=1", "--batch_size=32"),
    ],
    ids=lambda arguments: "-".join(arguments[:2]).replace("=", "-"),
)  # fmt: skip
def test_a_normal_run_prints_nothing_of_its_libraries(arguments, command, mnist_28):
    given = [argument.replace("DATA", str(mnist_28)) for argument in arguments]
    process = command(*given)
    said = process.stderr + process.stdout
    assert not LIBRARIES.search(process.stderr), process.stderr
    assert said.strip() and "Traceback" not in said


COMMANDS = [
    ("card", "packed_lenet", "--weights=mnist"),
    ("export", "packed_lenet", "OUT/served", "--weights=mnist"),
    ("export", "mc_dropout_lenet", "OUT/optimized", "--optimize"),
    ("export", "packed_lenet", "OUT/edge", "--weights=mnist", "--format=litert"),
    ("benchmark", "--backbone=lenet", "--methods=single,packed", "--rounds=1", "--seconds=5",
     "--batch_sizes=1", "--times_only"),
]  # fmt: skip
IN_ONE_PROCESS = """
import json, sys, warnings
from zoo import cli
from zoo import command_errors
from zoo.commands.silence import silence

silence()
warnings.showwarning = command_errors.show_warning
for arguments in json.loads(sys.argv[1]):
    assert not cli.main(arguments), arguments
    print("ended", arguments[0])
"""


@pytest.mark.slow
def test_further_commands_print_nothing_of_their_libraries_either(python, monkeypatch, tmp_path):
    """One after the other, as each process of TensorFlow takes seconds to begin."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    process = python("-c", IN_ONE_PROCESS, json.dumps(COMMANDS).replace("OUT", str(tmp_path)))
    assert not LIBRARIES.search(process.stderr), process.stderr
    assert process.stdout.count("ended ") == len(COMMANDS)
    for file in ("served/saved_model.pb", "optimized/saved_model.pb", "edge/model.tflite"):
        assert (tmp_path / file).is_file()
    assert "Traceback" not in process.stderr

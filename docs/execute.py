"""Execute the notebooks of the documentation, and store their outputs.

    python docs/execute.py [NAME ...]

Each runs in a folder of its own.  What libraries write to standard error is left out.  The hash of the code
is stored with the outputs, so that a test can tell whether they are those of the code.
"""

import hashlib
import os
import pathlib
import sys
import tempfile
import time

FOLDER = pathlib.Path(__file__).parent / "notebooks"


def code_hash(notebook):
    """Hash the code of a notebook.

    Args:
        notebook: dict or `nbformat.NotebookNode`.

    Returns:
        str, 16 hexadecimal digits.
    """
    code = "\0".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def execute(path):
    """Execute a notebook in a temporary folder.

    Args:
        path: `pathlib.Path` of an `.ipynb` file.

    Returns:
        The `nbformat.NotebookNode` with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    import nbclient
    import nbformat

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3",
                                         resources={"metadata": {"path": folder}})  # fmt: skip
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in map(_without_logs, cell.outputs) if o.get("text") != ""]
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"}, "code_hash": code_hash(notebook),
    }  # fmt: skip
    return notebook


def _without_logs(output):
    """An output without standard error and the log lines of TensorFlow, which name temporary files."""
    if output.get("name") == "stderr":
        output["text"] = ""
    elif output.get("name") == "stdout":
        lines = output["text"].splitlines(keepends=True)
        output["text"] = "".join(line for line in lines if not line.startswith("INFO:tensorflow:"))
    return output


def main(names):
    """Execute notebooks by name, or all, and write them back.

    Args:
        names: list of str, without `.ipynb`.
    """
    import nbformat

    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        started = time.time()
        nbformat.write(execute(path), path)
        print(
            f"{path.name}: {time.time() - started:.0f} s, {path.stat().st_size / 1000:.0f} kB",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])

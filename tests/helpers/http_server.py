"""A small HTTP server of one exported file, with the standard library and the file's runtime alone.

    python http_server.py FILE_OR_FOLDER

It prints its address.  `POST /predict` takes {"images": [[[[0, 255, ...]]]]} and answers with
{"probabilities": ..., "members": ..., ...}; what it cannot answer gets status 400 and {"error": "a line"}.
"""

import http.server
import json
import pathlib
import sys
import threading

import numpy as np

MOST_BYTES = 4_000_000


def saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    default = loaded.signatures["serving_default"]

    def answer(images):
        return {name: value.numpy() for name, value in default(images=tf.constant(images)).items()}

    answer.loaded = loaded
    return answer


def litert(path):
    import tensorflow as tf

    content, lock = path.read_bytes(), threading.Lock()

    def runner():
        return tf.lite.Interpreter(model_content=content, num_threads=1).get_signature_runner()

    current = [runner()]

    def answer(images):
        with lock:  # an interpreter serves one call at a time
            try:
                return current[0](images=images)
            except Exception:
                current[0] = runner()  # the old one keeps the size that it was given
                raise

    return answer


def onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images})))


def openvino(path):
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answer(images):
        given = compiled.create_infer_request().infer({"images": images})  # one for each thread
        return {output.any_name: given[output] for output in compiled.outputs}

    # The first call, here before there are threads: several first calls at once can wait for each other for ever.
    _, *size = compiled.input(0).partial_shape
    answer(np.zeros((1, *(length.get_length() for length in size)), "float32"))
    return answer


LOADERS = {"": saved_model, ".tflite": litert, ".onnx": onnx, ".xml": openvino}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request; `answer` is a function from float32 images to arrays by name."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    answer = None

    def do_POST(self):
        try:
            outputs = type(self).answer(self._images())
            if not all(np.isfinite(value).all() for value in outputs.values()):
                raise ValueError("images hold NaN or infinite pixels")
        except Exception as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            said = [line for line in lines if "images must be" in line]  # within TensorFlow's own lines
            self._send(400, {"error": (said or lines)[0]})
        else:
            self._send(200, {name: value.tolist() for name, value in outputs.items()})

    def _images(self):
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= MOST_BYTES:
            self.close_connection = length != 0  # the body stays unread
            raise ValueError(f"a body must have 1 to {MOST_BYTES} bytes; got {length}")
        body = self.rfile.read(length)
        if self.path != "/predict":
            raise ValueError("the one address is /predict")
        return np.array(json.loads(body)["images"], "float32")

    def _send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main(path):
    path = pathlib.Path(path)
    Handler.answer = staticmethod(LOADERS[path.suffix if path.is_file() else ""](path))
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])

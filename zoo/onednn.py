"""oneDNN, with which TensorFlow trains faster on a CPU."""

import os


def switch_onednn_on() -> None:
    """Let TensorFlow use oneDNN, unless the environment says otherwise; call before TensorFlow is imported.

    TensorFlow leaves oneDNN off on processors without AVX-512, where ResNet-50 then trains three times
    slower. It is not for programs that answer single images, which it slows down there.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

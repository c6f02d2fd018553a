"""What loading raises: one kind of error, whatever is wrong with a file or a server."""

import unicodedata


class WeightsError(ValueError):
    """Weights, a `config.json`, the index or a download that is damaged, hostile or does not fit.

    Its message is one line that says what was found, what is expected and what to do.

    Example:
        >>> try:
        ...     zoo.load("packed_lenet", weights="fashion")
        ... except zoo.WeightsError as error:
        ...     print(error)
        packed_lenet has no weights='fashion'; there are cifar10, fashion_mnist, mnist, None and paths
    """


class MissingWeightsError(WeightsError, FileNotFoundError):
    """A weights file that was not found, on this machine or on a server."""

    def __str__(self) -> str:  # not that of OSError, which looks for a number
        return str(self.args[0]) if self.args else ""


def is_one_line(text: str) -> bool:
    """Tell whether text can be shown in a line as it is.

    Args:
        text: str; spaces of any width and joiners of letters, which some languages need, are fine.

    Returns:
        A bool, False for control characters, line separators, marks that turn the direction of what
        follows, and halves of characters.
    """
    turns = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return not any(c in turns or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def one_line(error: BaseException, limit: int = 200) -> str:
    """Describe any error in one short line.

    Args:
        error: what was raised.
        limit: int, characters. Default: 200.

    Returns:
        str, its class and the beginning of its message, without line breaks or control characters.
    """
    text = "".join(c if is_one_line(c) else " " for c in str(error))
    text = " ".join(text.split())
    text = text if len(text) <= limit else text[:limit] + "..."
    kind = type(error).__name__
    return (
        text if text and isinstance(error, (WeightsError, OSError)) else f"{kind}: {text}".rstrip(": ")
    )

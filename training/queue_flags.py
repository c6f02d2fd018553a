"""The flags of scripts whose workers share a queue."""

from absl import flags

flags.disclaim_key_flags()  # --help lists them with the script that defines them


def define_storage() -> None:
    """Define --storage, the database of the queue."""
    flags.DEFINE_string(
        "storage", None, "URL of a database for Optuna (default: an SQLite file in the folder)"
    )


def define_heartbeat(seconds: int = 60) -> None:
    """Define --heartbeat, by which workers notice that another one has died.

    Args:
        seconds: int, the flag's default. Default: 60.
    """
    flags.DEFINE_integer(
        "heartbeat",
        seconds,
        "seconds between a worker's signs of life; one that misses three counts as dead",
        lower_bound=1,
    )

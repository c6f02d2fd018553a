"""What the commands of `zoo.cli` share and do: errors in one line, quiet libraries, predictions, the page."""

"""What commands of `zoo.cli` share and do: one-line errors, quiet libraries, predictions, the page."""

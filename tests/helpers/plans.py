"""Plans of runs for `zoo.training.fill`."""

PLAN = """
[[run]]
recipe = "mnist_single_mlp"
seeds = [71, 72]
batch_size = 5
epochs = 40
learning_rate = 0.01
"""


def plan_of(folder, text=PLAN):
    """A file in a folder with this plan."""
    path = folder / "plan.toml"
    path.write_text(text)
    return path

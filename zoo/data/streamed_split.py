"""Splits that are streamed from disk, with the interface of splits in memory."""

from zoo.data import streams


class StreamedSplit:
    """A split on disk, as `zoo.data.arrays.Split` is one in memory.

    Args:
        dataset, split, data_dir: of a prepared TFDS folder.
        image_size: pixels of a side, to which images are cropped and resized; 0 takes them as they are.

    Raises:
        FileNotFoundError: where it is not in `data_dir`.
        ValueError: for images that differ in size and no `image_size`.
    """

    def __init__(self, dataset, split, data_dir, image_size=0):
        self.source = streams.open_split(dataset, split, data_dir)
        self.image_size = (image_size, image_size) if image_size else None
        if self.image_size is None and self.source.image_shape is None:
            raise ValueError(f"images of {dataset} differ in size: set image_size, as 224")

    def __len__(self):
        return self.source.num_examples

    @property
    def image_shape(self):
        """(H, W, C)."""
        if self.image_size is None:
            return tuple(self.source.image_shape)
        return (*self.image_size, self.source.channels)

    @property
    def num_classes(self):
        """K, as the data set says."""
        return self.source.num_classes

    @property
    def class_names(self):
        """K strings, or empty where the data set does not name its classes."""
        return self.source.class_names

    def batches(self, size):
        """All (images, labels) in order, centre crops where images are resized."""
        options = {"image_size": self.image_size} if self.image_size else {"crop": "none"}
        for images, labels in streams.evaluation(self.source, size, **options):
            yield images.numpy(), labels.numpy()

    def shuffled(self, recipe, part=0, parts=1):
        """What trains by it."""
        return StreamedBatches(self, recipe, part, parts)


class StreamedBatches:
    """The batches of all epochs from one on, in an order that seed and epoch decide.

    Args:
        split: `StreamedSplit`.
        recipe: for batch size, seed, and whether to mirror.
        part, parts: which of how many equal, contiguous parts of every batch is given.
    """

    def __init__(self, split, recipe, part=0, parts=1):
        self.split, self.recipe = split, recipe
        self.part, self.parts = part, parts
        self.start(0)

    def start(self, epoch, first=0):
        """Begin with the batch `first` of an epoch."""
        self.epoch, self.first = epoch, first

    @property
    def steps(self):
        """Batches of a whole epoch."""
        return len(self.split) // self.recipe.batch_size

    def __len__(self):
        return self.steps - self.first

    def dataset(self, replicas=1):
        """This part of the batches, as a `tf.data.Dataset` with a batch for each of its replicas."""
        resized = self.split.image_size
        options = {"image_size": resized} if resized else {"crop": "none"}
        return streams.training(
            self.split.source, self.recipe.batch_size, seed=self.recipe.seed, epoch=self.epoch,
            epochs=self.recipe.epochs + 2 - self.epoch, first_step=self.first, worker=self.part,
            num_workers=self.parts, replicas=replicas, flip=self.recipe.flip and bool(resized), **options,
        )  # fmt: skip

    def feed(self):
        """What `fit` takes."""
        return {"x": self.dataset(), "steps_per_epoch": len(self)}

"""Define the order of the classes in the authors' checkpoints."""

from __future__ import annotations

from mmdfer.converters.authors_file import AuthorsFile
from mmdfer.datasets import DFEW, MAFW, DFERDataset, FERV39k
from mmdfer.errors import DFERError

# The class numbers in the files annotation/*.txt of zengqunzhao/DFER-CLIP. Their counts of each
# class are those of the releases: docs/datasets.md. zengqunzhao/Former-DFER numbers the classes of
# DFEW and FERV39k in the same way, and has no list for MAFW.
_SEVEN = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')
_ELEVEN = (*_SEVEN, 'contempt', 'anxiety', 'helplessness', 'disappointment')

# The dataset of each name on the command line, and the order of its classes in the authors' files.
DATASETS: dict[str, tuple[type[DFERDataset], tuple[str, ...]]] = {
    'dfew': (DFEW, _SEVEN),
    'ferv39k': (FERV39k, _SEVEN),
    'mafw': (MAFW, _ELEVEN),
}


def find_class_rows(file: AuthorsFile, dataset: str, name: str) -> list[int]:
    """Find the authors' number of each class of a dataset, in the order of this package's classes.

    Args:
        file: The authors' file.
        dataset: Key into ``DATASETS``.
        name: Name of a tensor of the file whose first axis is the class.

    Raises:
        DFERError: If the dataset has another number of classes than the file.
    """
    ours, theirs = DATASETS[dataset]
    tensor = file.tensor(name)
    count = len(tensor) if tensor.ndim else 0
    if count != len(theirs):
        fitting = [name for name, (_, order) in DATASETS.items() if len(order) == count]
        remedy = f'give --dataset {" or ".join(fitting)}' if fitting else 'give another file'
        raise DFERError(
            f'{file.path}: the model has {count} classes, but {ours.METAINFO["dataset"]} has '
            f'{len(theirs)}; {remedy}'
        )
    return [theirs.index(name) for name in ours.METAINFO['classes']]

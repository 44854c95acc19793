"""Read the checkpoint of an authors' training script without executing code from the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdfer.compat import NUMPY_GLOBALS, load_from_local
from mmdfer.errors import DFERError


class ScriptObject:
    """Stand in for an object of a training script, and keep nothing of it."""

    def __setstate__(self, state: Any) -> None:
        """Discard the state that the file holds for the object."""


# The classes that main*.py of zengqunzhao/DFER-CLIP and zengqunzhao/Former-DFER define, and the
# name that forks give to a second recorder. The files hold one of them, under `recorder`.
_SCRIPT_CLASSES = ('RecorderMeter', 'RecorderMeter1', 'AverageMeter', 'ProgressMeter')
_ALLOWED: tuple[Callable | tuple[Callable, str], ...] = (
    *NUMPY_GLOBALS,
    *((ScriptObject, f'__main__.{name}') for name in _SCRIPT_CLASSES),
)


@dataclass(frozen=True)
class AuthorsFile:
    """Hold what a checkpoint of an authors' training script contains.

    Attributes:
        path: Path of the file.
        state: Tensors of the model by name, on the CPU. The prefix ``module.``, which torch's
            DataParallel adds to the names, is removed.
        epoch: Number of the epochs after which the file was written, if the file says it.
        best_accuracy: Best accuracy up to then in percent, if the file says it.
    """

    path: Path
    state: dict[str, Tensor]
    epoch: int | None
    best_accuracy: float | None

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the model.

        Raises:
            DFERError: If the file does not have it.
        """
        if name not in self.state:
            raise self.error(f'the file lacks the tensor {name!r}')
        return self.state[name]

    def error(self, reason: str) -> DFERError:
        """Return the error that the file is not what the authors' training script writes."""
        return DFERError(
            f"{self.path}: {reason}; give an unchanged checkpoint of the authors' training script"
        )


def read_authors_file(path: Path) -> AuthorsFile:
    """Read a checkpoint in torch's zip format or in its legacy format.

    The file may name the types of torch that ``torch.load(weights_only=True)`` accepts, numpy's
    arrays and scalars, and the classes of the training scripts. For an object of these classes, an
    empty :class:`ScriptObject` is built. A file that names anything else is refused.

    Args:
        path: Path of the file.

    Raises:
        DFERError: If the file is missing, damaged, or a web page, if it names anything else, or if
            it has no state dict.
    """
    if path.is_file() and _starts_as_page(path):
        raise DFERError(
            f'{path}: the file is a web page, such as the one that asks to confirm a download; '
            'download the checkpoint itself'
        )
    with _without_other_globals():
        checkpoint = load_from_local(path, 'cpu', _ALLOWED)
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, dict) or not state or not all(map(_is_weight, state.items())):
        raise DFERError(
            f'{path}: the file holds no state dict of a model; give a checkpoint that the training '
            'script of the authors wrote'
        )
    return AuthorsFile(
        path,
        {name.removeprefix('module.'): tensor for name, tensor in state.items()},
        checkpoint['epoch'] if isinstance(checkpoint.get('epoch'), int) else None,
        _read_number(checkpoint.get('best_acc')),
    )


@contextmanager
def _without_other_globals() -> Iterator[None]:
    """Withdraw the globals that torch and other packages have declared safe for all files.

    They include classes with side effects, such as torch's DeviceMesh, which starts processes'
    communication.
    """
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        yield
    finally:
        torch.serialization.add_safe_globals(others)


def _starts_as_page(path: Path) -> bool:
    """Return whether a file begins as HTML does."""
    with path.open('rb') as file:
        return file.read(64).lstrip().startswith(b'<')


def _is_weight(item: tuple[Any, Any]) -> bool:
    """Return whether an entry of a state dict is a dense tensor under a name."""
    name, tensor = item
    dense = isinstance(tensor, Tensor) and tensor.layout is torch.strided
    return isinstance(name, str) and dense and tensor.device.type == 'cpu'


def _read_number(value: Any) -> float | None:
    """Convert a number, or a tensor with a single number, to a float; None for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    return float(value) if isinstance(value, (int, float, np.number)) else None

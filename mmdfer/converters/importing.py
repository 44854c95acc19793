"""Write an authors' checkpoint as a folder that the commands of this package run."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from mmdfer.converters.authors_file import AuthorsFile, read_authors_file
from mmdfer.converters.class_order import DATASETS
from mmdfer.converters.conversion import Conversion, config_name
from mmdfer.converters.dfer_clip import convert_dfer_clip
from mmdfer.converters.former_dfer import convert_former_dfer
from mmdfer.errors import DFERError
from mmdfer.files import hash_file, write_aside, write_text
from mmdfer.version import __version__


class Method(NamedTuple):
    """Describe a method whose authors publish checkpoints.

    Attributes:
        title: Name of the method in its paper.
        convert: Function that converts a file for a dataset.
        marker: Name of a tensor that only the files of this method have.
    """

    title: str
    convert: Callable[[AuthorsFile, str], Conversion]
    marker: str


METHODS = {
    'dfer_clip': Method('DFER-CLIP', convert_dfer_clip, 'prompt_learner.ctx'),
    'former_dfer': Method('Former-DFER', convert_former_dfer, 's_former.conv1.weight'),
}


@dataclass(frozen=True)
class Imported:
    """Hold the paths of an imported checkpoint, and what the authors' file says about it.

    Attributes:
        config: Path of the config.
        checkpoint: Path of the checkpoint.
        clip: Path of the CLIP weights, or None for a method without CLIP.
        classes: Class names in the order of the model's logits, which is this package's.
        texts: The text of each class, if the file has class texts.
        epoch: Number of epochs of training, if the file says it.
        best_accuracy: Best accuracy in percent, if the file says it.
    """

    config: Path
    checkpoint: Path
    clip: Path | None
    classes: tuple[str, ...]
    texts: dict[str, str]
    epoch: int | None
    best_accuracy: float | None


def import_checkpoint(method: str, path: str | Path, dataset: str, out: str | Path) -> Imported:
    """Convert a checkpoint that authors publish to a config and a checkpoint of this package.

    No code from the file is executed, and nothing is downloaded.

    Args:
        method: Key into ``METHODS``.
        path: Path of the authors' file.
        dataset: Name of the dataset on which the authors trained, a key into ``DATASETS``. It
            determines the order of the classes in the file.
        out: Folder to write to, which must be empty or missing. It can be moved afterwards.

    Raises:
        DFERError: If the folder is not empty, or if the file is damaged, names code, or holds
            another method or another number of classes.
    """
    path, out = Path(path).expanduser(), Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DFERError(f'{out}: there are files already; give another folder, or delete them')
    file = read_authors_file(path)
    _check_method(file, method)
    done = METHODS[method].convert(file, dataset)
    clip = None if done.clip is None else out / 'clip.safetensors'
    text = _write_config_text(method, dataset, done.settings, clip)
    if clip is not None and done.clip is not None:
        _save_clip(clip, done.clip)
    info = DATASETS[dataset][0].METAINFO
    meta = dict(
        dataset_meta=dict(info),
        config_text=text,
        epoch=file.epoch or 0,
        mmdfer_version=__version__,
        imported=dict(file=path.name, sha256=hash_file(path), best_accuracy=file.best_accuracy),
    )
    _save_checkpoint(out / 'checkpoint.pth', dict(meta=meta, state_dict=done.state))
    write_text(out / 'config.py', text)  # the last file, so that its folder is complete
    return Imported(
        out / 'config.py',
        out / 'checkpoint.pth',
        clip,
        tuple(info['classes']),
        done.texts,
        file.epoch,
        file.best_accuracy,
    )


def _check_method(file: AuthorsFile, method: str) -> None:
    """Raise DFERError if a file holds the weights of another method."""
    marker = METHODS[method].marker
    if marker in file.state:
        return
    others = [name for name, other in METHODS.items() if other.marker in file.state]
    remedy = f'run mmdfer import-checkpoint {others[0]}' if others else 'give another file'
    raise DFERError(
        f'{file.path}: the file does not hold the weights of {METHODS[method].title}, because it '
        f'has no tensor {marker!r}; {remedy}'
    )


def _save_clip(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors of a CLIP as safetensors."""
    content = safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}
    )
    with write_aside(path) as aside:
        aside.write_bytes(content)


def _save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint as mmengine does."""
    content = io.BytesIO()  # if torch wrote the file, it would hide the error of a full disk
    torch.save(checkpoint, content)
    with write_aside(path) as aside:
        aside.write_bytes(content.getbuffer())


# ---------------------------------------------------------------- config


class _Beside(str):
    """Name a file that is in the same folder as the config."""


def _write_config_text(
    method: str, dataset: str, settings: Mapping[str, Any], clip: Path | None
) -> str:
    """Return the text of the config, which finds the files beside it wherever its folder is."""
    weights = f"its authors' weights for {DATASETS[dataset][0].METAINFO['dataset']}"
    model = dict(settings)
    if clip is not None:
        model = dict(backbone=dict(weights=_Beside(clip.name)), **model)
    return (
        f'"""Test or fine-tune {METHODS[method].title} with {weights}."""\n\n'
        f'_base_ = [{f"mmdfer::{config_name(method, dataset)}"!r}]\n\n'
        f'load_from = {_write_value(_Beside("checkpoint.pth"))}\n'
        f'model = {_write_value(model)}\n'
    )


def _write_value(value: Any, indent: int = 0) -> str:
    """Return the Python code of a setting, whose dicts have identifiers as keys."""
    if isinstance(value, Mapping):
        inner = ' ' * (indent + 4)
        lines = [f'{inner}{key}={_write_value(v, indent + 4)},\n' for key, v in value.items()]
        return f'dict(\n{"".join(lines)}{" " * indent})'
    if isinstance(value, _Beside):
        # mmengine replaces fileDirname. The name of the folder may contain a quote.
        return f'r"""{{{{ fileDirname }}}}/{value}"""'
    # Braces are escaped because mmengine also replaces templates in the middle of a text.
    return repr(value).replace('{', r'\x7b').replace('}', r'\x7d')

"""Copy the tensors of an authors' file into a model of this package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from mmdfer.converters.authors_file import AuthorsFile

# For the name of each tensor of a model, its name in the authors' file and the index of the part
# that is copied, where `...` is the whole tensor.
Sources = dict[str, tuple[str, Any]]

# The parts of a transformer layer in this package, and their names in the authors' code.
_LAYER_PARTS = {
    'norm1.weight': '0.fn.norm.weight',
    'norm1.bias': '0.fn.norm.bias',
    'qkv.weight': '0.fn.fn.to_qkv.weight',
    'out.weight': '0.fn.fn.to_out.0.weight',
    'out.bias': '0.fn.fn.to_out.0.bias',
    'norm2.weight': '1.fn.norm.weight',
    'norm2.bias': '1.fn.norm.bias',
    'mlp.0.weight': '1.fn.fn.net.0.weight',
    'mlp.0.bias': '1.fn.fn.net.0.bias',
    'mlp.2.weight': '1.fn.fn.net.3.weight',
    'mlp.2.bias': '1.fn.fn.net.3.bias',
}


def list_layers(ours: str, theirs: str, depth: int) -> Sources:
    """List the tensors of a stack of transformer layers, which both methods have.

    Args:
        ours: Prefix of the names in this package, before the number of the layer.
        theirs: Prefix of the names in the authors' file, before the number of the layer.
        depth: Number of layers.
    """
    return {
        f'{ours}{number}.{part}': (f'{theirs}{number}.{name}', ...)
        for number in range(depth)
        for part, name in _LAYER_PARTS.items()
    }


def list_temporal_transformer(ours: str, theirs: str, layers: str, depth: int) -> Sources:
    """List the tensors of a temporal transformer, which both methods have.

    The first of the authors' position embeddings is that of the class token.

    Args:
        ours: Prefix of the names of a TemporalTransformer in this package.
        theirs: Prefix of the names in the authors' file.
        layers: The part of the authors' names between that prefix and the number of the layer.
        depth: Number of layers.
    """
    return {
        f'{ours}class_token': (f'{theirs}cls_token', (0, 0)),
        f'{ours}class_position': (f'{theirs}pos_embedding', (0, 0)),
        f'{ours}position': (f'{theirs}pos_embedding', (0, slice(1, None))),
        **list_layers(f'{ours}layers.', f'{theirs}{layers}', depth),
    }


def count_layers(file: AuthorsFile, theirs: str) -> int:
    """Return the number of transformer layers whose names in the file have a prefix."""
    names = [f'{theirs}{number}.0.fn.norm.weight' for number in range(len(file.state))]
    return next(number for number, name in enumerate([*names, '']) if name not in file.state)


def fill(model: nn.Module, sources: Sources, file: AuthorsFile, others: Iterable[str] = ()) -> None:
    """Copy the tensors of a file into a model, and check that each of them is used.

    Args:
        model: The model, which is changed in place.
        sources: Where the file holds each tensor of the model.
        file: The authors' file.
        others: Names of tensors of the file that are not copied and are known.

    Raises:
        DFERError: If the file lacks a tensor, has one that the model does not have, or has one of
            another shape.
    """
    known = {name for name, _ in sources.values()}
    if unknown := sorted(set(file.state) - known - set(others)):
        raise file.error(f'{len(unknown)} tensors are unknown, the first of them {unknown[0]!r}')
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, (theirs, index) in sources.items():
        whole, target = file.tensor(theirs), tensors[name].detach()
        part = _take(whole, index)
        if part is None or part.shape != target.shape:
            raise file.error(
                f'the tensor {theirs!r} of shape {tuple(whole.shape)} does not fit {name} of shape '
                f'{tuple(target.shape)}'
            )
        target.copy_(part)


def _take(tensor: Tensor, index: Any) -> Tensor | None:
    """Return the part of a tensor at an index, or None if the tensor has too few axes or rows."""
    try:
        return tensor[index]
    except IndexError:
        return None

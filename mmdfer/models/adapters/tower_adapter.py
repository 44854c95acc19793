"""Define the interface of adapters, small trained modules inside a frozen tower of CLIP."""

from __future__ import annotations

from typing import Any

from open_clip.transformer import Transformer
from torch import nn

from mmdfer.errors import DFERError


class TowerAdapter(nn.Module):
    """Define the interface of a module that changes what the blocks of a frozen tower compute.

    FrozenCLIP builds an adapter from its config, passes the width of the tower (``dims``) and its
    number of blocks (``layers``) to it, and calls :meth:`attach`. Until training begins, the tower
    with the adapter must compute what the tower computes without it.

    The parameters of an adapter belong to the adapter and not to the tower, so their names begin
    with ``adapter.`` or ``text_adapter.`` in FrozenCLIP.
    """

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the tensors of a checkpoint do not show: the type, and other arguments.

        FrozenCLIP saves them, and refuses a checkpoint with others.
        """
        return dict(type=type(self).__name__)

    def attach(self, transformer: Transformer) -> None:
        """Make a frozen transformer use this adapter in its own forward pass.

        By default this does nothing. FrozenCLIP then calls the adapter instead of the tower, as for
        FrameMixingAdapter.

        Args:
            transformer: The transformer of an open_clip tower.
        """


def check_sizes(owner: str, **sizes: int) -> None:
    """Raise DFERError if a size of an adapter is not a positive integer.

    Args:
        owner: Name of the adapter, for the error message.
        sizes: The sizes, keyed by the name of their argument.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise DFERError(f'{owner}: {name}={size!r} must be an integer of at least 1')

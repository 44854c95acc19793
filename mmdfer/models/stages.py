"""Define the interface of modules whose computation changes with the stage of training."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from torch import nn


class StagedModule(abc.ABC):
    """Define the interface of a module whose computation changes with the stage of training.

    BAPHook divides a training into stages, such as the three stages of Align-DFER's training. It
    switches every ``nn.Module`` that also inherits from this class, such as JAS, between the
    stages. The hook calls :meth:`check_stage` for every stage before training, :meth:`enter_stage`
    once when a stage begins, and :meth:`set_stage` before each epoch.

    BAPHook does nothing outside training. A module therefore keeps its current stage in buffers,
    which are saved in the checkpoint, and restores the stage from the buffers when a checkpoint is
    loaded. ``forward`` must read the stage from Python values instead of the buffers, because
    reading a buffer on a GPU makes each step wait for the device.
    """

    @abc.abstractmethod
    def check_stage(self, name: str, grows_at: Sequence[int] | None) -> None:
        """Check that a stage of the config fits this module.

        Args:
            name: Name of the stage.
            grows_at: Epochs, counted within the stage, at which one more layer joins. ``None``
                means that all layers work from the first epoch of the stage.

        Raises:
            DFERError: If the module has no stage of this name, or if ``grows_at`` adds a number of
                layers that differs from the number that the module has.
        """

    @abc.abstractmethod
    def enter_stage(self, name: str) -> None:
        """Apply the changes that happen once when a stage begins, such as copying weights.

        Args:
            name: Name of the stage that begins.
        """

    @abc.abstractmethod
    def set_stage(self, name: str, joined: int | None) -> None:
        """Switch the module to a stage.

        Args:
            name: Name of the stage.
            joined: Number of layers that the stage has added so far. ``None`` means all of them.
        """

    @property
    @abc.abstractmethod
    def working_layers(self) -> Sequence[nn.Module]:
        """Return the layers that work in the current stage, with the newest layer last.

        The number of layers must be known from Python values, without reading from the device. A
        stage with ``newest_only`` trains only the last layer of this list and freezes the others.
        """


def list_staged_modules(model: nn.Module) -> list[StagedModule]:
    """List the modules of a model that inherit from StagedModule."""
    return [module for module in model.modules() if isinstance(module, StagedModule)]

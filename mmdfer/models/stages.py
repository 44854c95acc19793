"""The interface of modules that change with the stage of training."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from torch import nn


class StagedModule(abc.ABC):
    """A module whose computation changes with the stage of training, such as JAS.

    Any ``nn.Module`` that also inherits from this class takes part in the stages of BAPHook, which
    calls :meth:`check_stage` for every stage before training, :meth:`enter_stage` once when a stage
    begins, and :meth:`set_stage` before each epoch.

    BAPHook does nothing outside training. A module therefore keeps its stage in buffers, which
    travel with the checkpoint, and restores it from them when a checkpoint is loaded. In
    ``forward`` it reads Python values: reading a buffer on a GPU would make each step wait for it.
    """

    @abc.abstractmethod
    def check_stage(self, name: str, grows_at: Sequence[int] | None) -> None:
        """Refuse a stage that does not fit this module.

        Args:
            name: The name of the stage.
            grows_at: The epochs of the stage at which a layer joins, or None where all layers work
                from its first epoch.

        Raises:
            DFERError: The module has no such stage, or not as many layers.
        """

    @abc.abstractmethod
    def enter_stage(self, name: str) -> None:
        """Do what happens once, when a stage begins, such as copying weights."""

    @abc.abstractmethod
    def set_stage(self, name: str, joined: int | None) -> None:
        """Switch to a stage.

        Args:
            name: The name of the stage.
            joined: How many layers the stage has added so far, or None for all of them.
        """

    @property
    @abc.abstractmethod
    def working_layers(self) -> Sequence[nn.Module]:
        """The layers that work in the present stage, the newest last.

        Their number is a Python integer that no device has to be asked for. Stages with
        ``newest_only`` freeze all of them but the last.
        """


def list_staged_modules(model: nn.Module) -> list[StagedModule]:
    """List the modules of a model that change with the stage of training."""
    return [module for module in model.modules() if isinstance(module, StagedModule)]

"""Gives the head the dataset's class names, so that they travel with the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmaction.registry import HOOKS

from mmdfer.engine.runner.progress import train_loop
from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.errors import DFERError
from mmdfer.models.heads.text_head import TextHead, describe_class_mismatch
from mmdfer.models.json_tensor import from_tensor

Names = tuple[str, ...]


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Hands the dataset's ``classes`` to the heads that keep names, before a checkpoint is loaded.

    A checkpoint of other names, or of the same in another order, is then refused by the head: its
    logits would be read as the wrong classes. For heads that keep no names, as MMAction2's, the
    names that mmengine writes beside the weights are compared; there training from ``load_from``
    with another number of classes is left to mmengine, which leaves out what does not fit.
    Datasets that name no classes are left alone.

    Args:
        new_classes: Whether training may begin from a checkpoint of other classes: ``load_from``
            then takes over everything but what belongs to a class, such as its learned tokens or
            its row of a linear layer. A class that both name keeps what it has learned. Resuming
            and testing still refuse other classes.
    """

    def __init__(self, new_classes: bool = False) -> None:
        self.new_classes = new_classes

    def before_run(self, runner: Runner) -> None:
        """Read the names off every dataset that the run has built."""
        heads = _named_heads(unwrap(runner.model)).values()
        for classes in _datasets_classes(runner):
            for head in heads:
                head.set_classes(classes)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Make a checkpoint of other classes fit, or refuse it.

        Raises:
            DFERError: A head that keeps no names would take over another class's weights.
        """
        model, begins = unwrap(runner.model), train_loop(runner) is not None and not runner._resume
        state = checkpoint.get('state_dict', checkpoint)
        heads = _named_heads(model)
        for name, head in heads.items():
            if begins and self.new_classes:
                _fit_named_head(head, f'{name}.', state)
        if heads:
            return  # their names are checked as they are loaded
        saved = ((checkpoint.get('meta') or {}).get('dataset_meta') or {}).get('classes')
        for ours in _datasets_classes(runner):
            if saved is None or tuple(saved) == ours:
                continue
            if begins and self.new_classes:
                _fit_plain_head(getattr(model, 'cls_head', None), tuple(saved), ours, state)
                break
            if not begins or len(saved) == len(ours):
                raise DFERError(describe_class_mismatch(tuple(saved), ours))


def _named_heads(model: nn.Module) -> dict[str, TextHead]:
    """Return the heads that keep names, by their own name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, TextHead)}


def _datasets_classes(runner: Runner) -> list[Names]:
    """List the class names of each dataset that the run has built and that names its classes."""
    found = []
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if classes:
            found.append(tuple(classes))
    return found


def _fit_named_head(head: TextHead, prefix: str, state: dict[str, Tensor]) -> None:
    key = f'{prefix}classes'
    saved = tuple(from_tensor(state[key])) if key in state else None
    if saved is None or head.classes is None or saved == head.classes:
        return
    del state[key]
    _move_classes(head, head.class_parameters(), saved, head.classes, prefix, state)


def _fit_plain_head(
    head: nn.Module | None, saved: Names, ours: Names, state: dict[str, Tensor]
) -> None:
    if head is None:
        return
    of_classes = [name for name, p in head.named_parameters() if p.shape[:1] == (len(ours),)]
    _move_classes(head, of_classes, saved, ours, 'cls_head.', state)


def _move_classes(
    head: nn.Module,
    names: Iterable[str],
    saved: Names,
    ours: Sequence[str],
    prefix: str,
    state: dict[str, Tensor],
) -> None:
    """Replace parameters (classes, ...) of a state dict by the head's own, but for shared classes.

    Args:
        head: As it was initialised.
        names: Of its parameters whose first axis is the classes.
        saved: The classes of the state dict.
        ours: The head's.
        prefix: Of the head's names in the state dict.
        state: Changed in place.
    """
    parameters = dict(head.named_parameters())
    for name in names:
        theirs = state.pop(f'{prefix}{name}', None)
        fresh = parameters[name].detach().clone()
        if theirs is None or theirs.shape != (len(saved), *fresh.shape[1:]):
            continue
        for place, label in enumerate(ours):
            if label in saved:
                fresh[place] = theirs[saved.index(label)]
        state[f'{prefix}{name}'] = fresh

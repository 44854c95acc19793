"""Define the hook that gives the head the class names of the dataset."""

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
    """Give the class names of the dataset to the head, and refuse checkpoints of other classes.

    The hook sets the dataset's ``classes`` in the heads that store class names, before a checkpoint
    is loaded. The names are saved in the checkpoint with the head. A head refuses a checkpoint with
    other class names, or with the same names in another order, since the logits of that checkpoint
    would be read as the wrong classes.

    Some heads store no class names, for example MMAction2's. For these the hook compares the class
    names that mmengine saves in the checkpoint's metadata. If training starts from ``load_from``
    and the number of classes differs, the hook leaves the checkpoint to mmengine, which skips the
    parameters that do not fit. Datasets without class names are not checked.

    Args:
        new_classes: Whether training may start from a checkpoint of other classes. If True,
            ``load_from`` loads all parameters except those that belong to one class, such as its
            learned tokens or its row of a linear layer. A class that is in both lists of names
            keeps its trained parameters. Resuming and testing still refuse other classes.
    """

    def __init__(self, new_classes: bool = False) -> None:
        self.new_classes = new_classes

    def before_run(self, runner: Runner) -> None:
        """Set the class names of every dataset that the run has built in the heads."""
        heads = _named_heads(unwrap(runner.model)).values()
        for classes in _datasets_classes(runner):
            for head in heads:
                head.set_classes(classes)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Fit a checkpoint of other classes to the model, or refuse the checkpoint.

        Raises:
            DFERError: If the head stores no class names and would load the weights of other
                classes.
        """
        model, begins = unwrap(runner.model), train_loop(runner) is not None and not runner._resume
        state = checkpoint.get('state_dict', checkpoint)
        heads = _named_heads(model)
        for name, head in heads.items():
            if begins and self.new_classes:
                _fit_named_head(head, f'{name}.', state)
        if heads:
            return  # These heads check the names when their state is loaded.
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
    """Return the heads that store class names, keyed by their module name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, TextHead)}


def _datasets_classes(runner: Runner) -> list[Names]:
    """List the class names of each dataset that the run has built, if the dataset has them."""
    found = []
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if classes:
            found.append(tuple(classes))
    return found


def _fit_named_head(head: TextHead, prefix: str, state: dict[str, Tensor]) -> None:
    """Fit a state dict of other classes to a head that stores class names.

    Args:
        head: The head, freshly initialised.
        prefix: The prefix of the head's keys in the state dict.
        state: The state dict of the checkpoint, which is changed in place.
    """
    key = f'{prefix}classes'
    saved = tuple(from_tensor(state[key])) if key in state else None
    if saved is None or head.classes is None or saved == head.classes:
        return
    del state[key]
    _move_classes(head, head.class_parameters(), saved, head.classes, prefix, state)


def _fit_plain_head(
    head: nn.Module | None, saved: Names, ours: Names, state: dict[str, Tensor]
) -> None:
    """Fit a state dict of other classes to a head that stores no class names.

    Parameters belong to the classes if the size of their first axis is the number of classes.

    Args:
        head: The head, freshly initialised, or None if the model has no ``cls_head``.
        saved: The class names of the checkpoint.
        ours: The class names of the dataset.
        state: The state dict of the checkpoint, which is changed in place.
    """
    if head is None:
        return
    by_class = [name for name, p in head.named_parameters() if p.shape[:1] == (len(ours),)]
    _move_classes(head, by_class, saved, ours, 'cls_head.', state)


def _move_classes(
    head: nn.Module,
    names: Iterable[str],
    saved: Names,
    ours: Sequence[str],
    prefix: str,
    state: dict[str, Tensor],
) -> None:
    """Replace the parameters of the classes in a state dict by the head's initial values.

    A class that is in both lists of names keeps its row of the state dict's parameters.

    Args:
        head: The head, freshly initialised.
        names: The names of the head's parameters of shape (classes, ...).
        saved: The class names of the state dict.
        ours: The class names of the head.
        prefix: The prefix of the head's keys in the state dict.
        state: The state dict, which is changed in place.
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

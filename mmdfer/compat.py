"""Patch defects of the installed releases of MMAction2 and mmengine.

Each function of the list below patches one defect, and does nothing if the installed release does
not have this defect. `apply()` calls the functions in order and may be called again. The patches
must be applied before `mmaction.models` is imported, so `mmdfer/__init__.py` calls `apply()` first.
In MMAction2's own tools, `custom_imports=dict(imports=['mmdfer'])` in the config is early enough.

- `require_mmcv`: without mmcv, MMAction2 fails with a ModuleNotFoundError that names no remedy.
- `hush_missing_operator`: mmcv-lite warns at each import about an operator that it does not have.
- `stub_missing_drn`: the wheel of mmaction2 1.2.0 lacks `mmaction.models.localizers.drn`.
- `skip_vindlu`: with transformers 4.56 or newer, `mmaction.models` fails to import its VindLU.
- `load_files_safely`: mmengine 0.10.7 cannot load its own checkpoints. onedl-mmengine 0.10.12
  executes code from a checkpoint.
- `load_urls_safely`: `load_from='https://...'` executes code from the file, up to torch 2.15.
- `disarm_config_text`: resuming executes the config text of the checkpoint, in both releases of
  mmengine.
- `write_test_metrics_once`: all ranks write the metrics of a test to the same file at once.
- `score_bfloat16`: MMAction2's heads convert their scores to numpy, which has no bfloat16.
- `compare_our_metrics`: mmengine's hooks do not know that a greater WAR, UAR or recall is better.
- `resume_early_stopping`: EarlyStoppingHook loses its count on resume, and builds the training loop
  for a test.
- `hand_backbone_to_preprocessor`: a data preprocessor cannot read which mean and std the weights of
  its recognizer require.
- `join_cpu_ranks`: several ranks require CUDA, in both releases of mmengine.
- `leave_untrained_models_unwrapped`: several ranks cannot test a model without trained parameters.
- `pass_on_folders`: a `data_root` or `levels` on the command line does not reach the loaders.
- `find_own_configs`: mmengine reads `package::config` only for OpenMMLab's own packages.
- `format_configs_once`: mmengine formats the config again for each checkpoint, which takes 0.3 s.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import inspect
import json
import os
import re
import struct
import subprocess
import sys
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn, TypeVar

import mmengine.config.config as mmengine_config
import mmengine.hooks.logger_hook as mmengine_logger_hook
import mmengine.hub
import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, master_only
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, LoggerHook
from mmengine.infer import BaseInferencer
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import BaseLoop, CheckpointLoader, Runner
from torch import nn

from .errors import DFERError
from .installed import PREFIX, find_installed_config, find_installed_weights

_REFUSED = 'mmdfer refuses '
MapLocation = str | torch.device | dict | Callable | None
Function = TypeVar('Function', bound=Callable)


class CheckpointNotFoundError(DFERError, FileNotFoundError):
    """Report that there is no checkpoint at the given path."""


class MissingMMCVError(DFERError, ImportError):
    """Report that neither mmcv nor mmcv-lite is installed."""


def apply() -> None:
    """Apply all patches that the installed releases need.

    Raises:
        MissingMMCVError: If neither mmcv nor mmcv-lite is installed.
    """
    require_mmcv()
    hush_missing_operator()
    stub_missing_drn()
    skip_vindlu()
    load_files_safely()
    load_urls_safely()
    disarm_config_text()
    write_test_metrics_once()
    score_bfloat16()
    compare_our_metrics()
    resume_early_stopping()
    hand_backbone_to_preprocessor()
    join_cpu_ranks()
    leave_untrained_models_unwrapped()
    pass_on_folders()
    find_own_configs()
    format_configs_once()


# ---------------------------------------------------------------- patches

_MARK = '_patched_by_mmdfer'


def replaces(upstream: Callable) -> Callable[[Function], Function]:
    """Decorate the replacement of an upstream function, so that `is_patched` recognises it.

    The decorator works as `functools.wraps` does and adds a mark to the replacement. If another
    package wraps the replacement with `functools.wraps`, the mark is copied to the wrapper. If
    another package wraps the upstream function, the wrapper has no mark. So `is_patched` tells
    whether this package's replacement is called, also if other packages patch the same function.

    Args:
        upstream: The function of MMAction2 or mmengine that is replaced.

    Returns:
        A decorator, which returns the replacement itself.
    """

    def mark(replacement: Function) -> Function:
        functools.update_wrapper(replacement, upstream)
        vars(replacement)[_MARK] = True
        return replacement

    return mark


def is_patched(function: Callable) -> bool:
    """Return whether a function is a replacement that `replaces` has marked."""
    return getattr(function, _MARK, False)


def _names_in(function: Callable) -> set[str]:
    """Return the names of globals and attributes that a function uses, looking through wrappers."""
    return set(inspect.unwrap(function).__code__.co_names)


# ---------------------------------------------------------------- packages


def require_mmcv() -> None:
    """Check that mmcv is installed; MMAction2 checks the version of mmcv itself.

    Raises:
        MissingMMCVError: If neither mmcv nor mmcv-lite is installed.
    """
    if find_spec('mmcv') is None:
        raise MissingMMCVError(
            'mmcv is not installed; install it with: pip install "mmcv-lite>=2.1,<2.2" '
            '(or build mmcv 2.1 yourself if you need its CUDA operators)'
        )


def hush_missing_operator() -> None:
    """Suppress mmcv-lite's warning about deformable attention, which no recognizer here uses."""
    warnings.filterwarnings('ignore', message=r'Fail to import ``MultiScaleDeformableAttention``')


class DRN:
    """Replace MMAction2's temporal localizer DRN, which the wheel of mmaction2 1.2.0 lacks.

    Raises:
        ImportError: If the class is instantiated.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ImportError(
            'the installed mmaction2 wheel lacks mmaction.models.localizers.drn: '
            'install MMAction2 from its source repository to use DRN'
        )


def stub_missing_drn() -> None:
    """Make `import mmaction.models` work with a wheel that lacks `localizers/drn/drn.py`.

    `mmaction/models/localizers/__init__.py` imports the class `DRN` from this file, so that
    `import mmaction.models` fails without the file. The folder is searched without importing it.
    """
    package = find_spec('mmaction')
    if package is None or package.submodule_search_locations is None:
        return  # MMAction2 is not installed, which the next import of it reports
    folders = [f'{root}/models/localizers' for root in package.submodule_search_locations]
    if PathFinder.find_spec('drn', folders) is not None:
        return
    name = 'mmaction.models.localizers.drn'
    parent, leaf = types.ModuleType(name), types.ModuleType(f'{name}.drn')
    parent.__path__ = []  # a package without files
    vars(parent)['drn'], vars(leaf)['DRN'] = leaf, DRN
    sys.modules.setdefault(parent.__name__, parent)
    sys.modules.setdefault(leaf.__name__, leaf)


def skip_vindlu() -> None:
    """Make `import mmaction.models` work with releases of transformers that are too new for VindLU.

    If the package transformers is installed, `import mmaction.models` imports the VindLU models.
    These import `apply_chunking_to_forward` from `transformers.modeling_utils`, which does not have
    it since release 4.56. MMAction2 then registers placeholders of the VindLU models, as it does
    without transformers. The file is searched without importing it, which would take long.
    """
    package = find_spec('transformers')
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder, 'modeling_utils.py')
        if file.is_file() and 'apply_chunking_to_forward' not in file.read_text(encoding='utf-8'):
            vars(importlib.import_module('mmaction.utils.dependency'))['WITH_MULTIMODAL'] = False


# ---------------------------------------------------------------- safe loading of checkpoints


def _refuse(name: str) -> NoReturn:
    """Refuse to unpickle an object that loading could execute code from."""
    raise UnpicklingError(f'{_REFUSED}{name}')


class _History(HistoryBuffer):
    """Restore a HistoryBuffer of mmengine from numbers only, then become a plain HistoryBuffer.

    The `__setstate__` of HistoryBuffer stores functions that the file names in a table that all
    buffers share. The method of this class reads only the two histories and the length.
    """

    def __setstate__(self, state: dict) -> None:
        logs, counts = state.get('_log_history'), state.get('_count_history')
        for numbers in (logs, counts):
            if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in 'biuf':
                _refuse('HistoryBuffer(of something but numbers)')
        self.__class__ = HistoryBuffer
        length = int(state.get('max_length', 1000000))
        HistoryBuffer.__init__(self, logs, counts, max_length=length)


def _statistic(owner: type, name: str) -> Callable:
    """Replace `builtins.getattr`, with which a checkpoint names HistoryBuffer's statistics."""
    if owner is not _History or name not in ('mean', 'max', 'min', 'current'):
        _refuse(f'builtins.getattr({owner!r}, {name!r})')
    return getattr(HistoryBuffer, name)


def _numeric_dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype:
    """Replace `numpy.dtype` by a function that accepts only the types of numbers and text."""
    dtype = np.dtype(code, align=align, copy=copy)
    if dtype.kind not in 'biufcSU':
        _refuse(f'numpy.dtype({code!r})')
    return dtype


def _rebuild_function(value: np.ndarray | np.generic) -> Callable:
    """Return the private function of numpy with which a pickle rebuilds a value of this type."""
    reduced = value.__reduce__()
    assert isinstance(reduced, tuple)
    return reduced[0]


def _numpy_globals() -> list[Global]:
    """List the globals with which a pickle rebuilds numpy's arrays and scalars of numbers."""
    rebuild_array, rebuild_scalar = _rebuild_function(np.empty(0)), _rebuild_function(np.float64(0))
    allowed: list[Global] = [(np.ndarray, 'numpy.ndarray'), (_numeric_dtype, 'numpy.dtype')]
    for core in ('core', '_core'):  # numpy 1 and numpy 2, each of which reads files of the other
        allowed.append((rebuild_array, f'numpy.{core}.multiarray._reconstruct'))
        allowed.append((rebuild_scalar, f'numpy.{core}.multiarray.scalar'))
    # A file does not name these classes. The unpickler checks the class of each object on which it
    # sets a state.
    classes = {type(np.dtype(code)) for code in '?bhilqBHILQefdgFDGSU'}
    return allowed + [(dtype, f'numpy.dtypes.{dtype.__name__}') for dtype in classes]


# What a file may name besides what torch itself allows. A pair holds the object that the unpickler
# uses, and the full name by which a file refers to it. A class that is used unchanged may be given
# without a name.
Global = Callable | tuple[Callable, str]
NUMPY_GLOBALS: tuple[Global, ...] = tuple(_numpy_globals())
# The entry of a safetensors file's metadata in which publish_model writes a checkpoint's meta data.
SAFETENSORS_META = 'mmdfer_meta'

_CHECKPOINT_GLOBALS: tuple[Global, ...] = (
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_statistic, 'builtins.getattr'),
    *NUMPY_GLOBALS,
)

# The errors that torch.load raises on a file that is not a checkpoint. It has no error class of its
# own.
_UNREADABLE = (
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    OverflowError,
    OSError,  # a file that is cut inside the table of the zip, where torch seeks to before byte 0
    struct.error,
)


def load_from_local(
    filename: str | os.PathLike,
    map_location: MapLocation = None,
    allowed: Sequence[Global] = _CHECKPOINT_GLOBALS,
) -> dict:
    """Load a local checkpoint without executing code from the file.

    Args:
        filename: The path of a file that `torch.save` or mmengine wrote, or of a `*.safetensors`
            file.
        map_location: The device of the tensors, as in `torch.load`. For a safetensors file it must
            be a device or None.
        allowed: What the file may name besides what torch allows. By default, what a checkpoint of
            mmengine names.

    Returns:
        The checkpoint, in which the config texts are moved to `['meta']['config_text']` (see
        `move_config_text`). For a safetensors file, the state dict, or the state dict and the meta
        data if `publish_model` wrote the file.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        DFERError: If the file is empty, truncated or not a checkpoint, or if it names anything that
            is not allowed. By default, it may contain tensors, numbers, text and mmengine's log
            histories.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise CheckpointNotFoundError(f'{path}: no such checkpoint; check the path')
    if path.stat().st_size == 0:
        raise DFERError(f'{path}: the checkpoint is empty (0 bytes); use an earlier one')
    if path.suffix == '.safetensors':
        return _load_safetensors(path, map_location)
    checkpoint = _load_weights_only(path, map_location, allowed)
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise DFERError(
            f'{path}: the file holds a {kind}, not a checkpoint; give a file with a dict of tensors'
        )
    return move_config_text(checkpoint)


def _load_weights_only(
    file: Any,
    map_location: MapLocation = None,
    allowed: Sequence[Global] = _CHECKPOINT_GLOBALS,
    **_: Any,
) -> Any:
    """Call `torch.load` and build only objects that torch or `allowed` allows."""
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(file, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        raise DFERError(f'{file}: {_refusal(str(error))}') from None
    except _UNREADABLE as error:
        if isinstance(file, Path) and _starts_as_zip(file) and not zipfile.is_zipfile(file):
            raise DFERError(
                f'{file}: the checkpoint is truncated; copy it again or use an earlier one'
            ) from None
        reason = str(error).split('\n')[0]
        raise DFERError(
            f'{file}: the file cannot be read as a checkpoint ({type(error).__name__}: {reason}); '
            'give a file that torch.save, mmengine or safetensors wrote'
        ) from None


def _refusal(message: str) -> str:
    """Shorten torch's message about a refused file, which has many lines, to one line."""
    named = re.search(rf'{_REFUSED}(.+)|GLOBAL (\S+)|unrecognized function (.+)', message)
    if named is None:
        reason = message.split('WeightsUnpickler error:')[-1].strip().split('\n')[0]
        return (
            f'the file cannot be read without executing code from it ({reason}); '
            'give a file that torch.save, mmengine or safetensors wrote'
        )
    name = next(filter(None, named.groups()))
    return (
        f'refused to load the file, because it names {name}, which could execute code (nothing '
        'was executed); ask its author for a file with only tensors, such as safetensors'
    )


def _starts_as_zip(path: Path) -> bool:
    """Return whether a file begins with the first four bytes of a zip file."""
    with path.open('rb') as file:
        return file.read(4) == b'PK\x03\x04'


def _load_safetensors(path: Path, map_location: MapLocation) -> dict[str, Any]:
    """Load the state dict in a safetensors file, and the meta data if the file has them."""
    from safetensors import SafetensorError, safe_open

    if not isinstance(map_location, str | torch.device | None):
        raise DFERError(f'{path}: map_location must be a device or None, got {map_location!r}')
    try:
        with safe_open(path, 'pt', device=str(map_location or 'cpu')) as file:
            keys = file.keys()
            state = {key: file.get_tensor(key) for key in keys}
            meta = (file.metadata() or {}).get(SAFETENSORS_META)
            return state if meta is None else dict(state_dict=state, meta=json.loads(meta))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise DFERError(
            f'{path}: the safetensors file is damaged ({error}); copy it again'
        ) from None


def _load_own_weights(name: str, map_location: MapLocation = None) -> dict:
    """Load the trained weights that `mmdfer::NAME` names."""
    return load_from_local(find_installed_weights(name), map_location)


def load_files_safely() -> None:
    """Patch mmengine so that every stock tool loads local checkpoints with `load_from_local`.

    Under torch >= 2.6, mmengine 0.10.7 cannot load the checkpoints that it wrote itself.
    onedl-mmengine 0.10.12 allows plain `getattr`, through which a file can call `eval`. If torch
    refuses a file, onedl-mmengine loads the file again and executes its code. A loader that another
    package has registered for local paths is kept.
    """
    upstream = mmengine_checkpoint.load_from_local
    if 'safe_globals' in _names_in(upstream):
        return
    if CheckpointLoader._schemes[''] is upstream:
        CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(PREFIX, _load_own_weights, force=True)
    # onedl-mmengine loads from ceph, from pavi and from its home folder with this function.
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):
        mmengine_checkpoint._safe_torch_load = _load_weights_only


def load_urls_safely() -> None:
    """Patch mmengine so that it loads downloaded checkpoints without executing code from them.

    The default of `torch.hub` is still to execute code from a checkpoint, and mmengine does not
    pass `weights_only=True` to it.
    """
    upstream = mmengine_checkpoint.load_url
    if inspect.signature(upstream).parameters['weights_only'].default or is_patched(upstream):
        return
    safe_load = functools.partial(upstream, weights_only=True)

    @replaces(upstream)
    def load_url(url: str, *args: Any, **kwargs: Any) -> Any:
        try:
            with torch.serialization.safe_globals(list(_CHECKPOINT_GLOBALS)):
                return safe_load(url, *args, **kwargs)
        except UnpicklingError as error:
            raise DFERError(f'{url}: {_refusal(str(error))}') from None

    mmengine_checkpoint.load_url = load_url


def move_config_text(checkpoint: dict) -> dict:
    """Move the config texts of a checkpoint to a key that nothing executes.

    `Runner.resume` and mmengine's inferencers pass `meta['config']`, `meta['cfg']` and
    `message_hub['runtime_info']['cfg']` to `Config.fromstring`, which runs them as Python.

    Args:
        checkpoint: The loaded checkpoint, which is changed in place.

    Returns:
        The same checkpoint. `['meta']['config_text']` holds the first text that was found, and the
        other texts are removed.
    """
    meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, dict) else None
    texts = [
        holder.pop(key)
        for holder, key in ((meta, 'cfg'), (meta, 'config'), (info, 'cfg'))
        if isinstance(holder, dict) and key in holder
    ]
    if texts:
        if not isinstance(meta, dict):
            meta = checkpoint['meta'] = {}
        meta.setdefault('config_text', texts[0])
    return checkpoint


def disarm_config_text() -> None:
    """Patch mmengine to apply `move_config_text` to each checkpoint from a file or another source.

    Without the patch, resuming and mmengine's inferencers execute the config text.
    """
    upstream = CheckpointLoader.load_checkpoint.__func__
    users = (Runner.resume, BaseInferencer._init_model)
    executes = any('fromstring' in _names_in(user) for user in users)
    if not executes or is_patched(upstream):
        return

    @replaces(upstream)
    def load_checkpoint(cls: type, *args: Any, **kwargs: Any) -> Any:
        checkpoint = upstream(cls, *args, **kwargs)
        return move_config_text(checkpoint) if isinstance(checkpoint, dict) else checkpoint

    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)


# ---------------------------------------------------------------- precision


def score_bfloat16() -> None:
    """Patch MMAction2's heads to convert bfloat16 scores to float32 for the loss and accuracy."""
    from mmaction.models import BaseHead

    upstream = BaseHead.loss_by_feat
    if 'numpy' not in _names_in(upstream) or is_patched(upstream):
        return

    @replaces(upstream)
    def loss_by_feat(self: BaseHead, cls_scores: torch.Tensor, data_samples: list) -> dict:
        low = cls_scores.dtype == torch.bfloat16
        return upstream(self, cls_scores.float() if low else cls_scores, data_samples)

    BaseHead.loss_by_feat = loss_by_feat


# ---------------------------------------------------------------- hooks

# The names of DFERMetric's metrics, with or without a prefix.
_GREATER_IS_BETTER = re.compile(r'(.+/)?(WAR|UAR|recall/.+)')


def compare_our_metrics() -> None:
    """Patch CheckpointHook and EarlyStoppingHook to infer the rule for DFERMetric's metrics.

    A greater value of WAR, UAR or a recall is better. Without the patch, `save_best='auto'` ends in
    a ValueError after the first epoch, and a `monitor` without `rule` ends in a ValueError at the
    start. The hooks' own lists match parts of names, so that `uar` would also match the name of a
    squared error. The patch therefore compares the whole name.
    """
    upstream, monitor_upstream = CheckpointHook._init_rule, EarlyStoppingHook._init_rule
    known = {key.lower() for key in CheckpointHook._default_greater_keys}
    if 'war' in known or is_patched(upstream):
        return

    @replaces(upstream)
    def init_rules(self: CheckpointHook, rules: list, key_indicators: list) -> None:
        rules = rules * len(key_indicators) if len(rules) == 1 else rules
        filled = [
            'greater' if rule is None and _GREATER_IS_BETTER.fullmatch(key) else rule
            for rule, key in zip(rules, key_indicators)
        ]
        upstream(self, filled, key_indicators)

    @replaces(monitor_upstream)
    def init_rule(self: EarlyStoppingHook, monitor: str) -> str:
        better = _GREATER_IS_BETTER.fullmatch(monitor)
        return 'greater' if better else monitor_upstream(self, monitor)

    CheckpointHook._init_rule, EarlyStoppingHook._init_rule = init_rules, init_rule


def resume_early_stopping() -> None:
    """Patch EarlyStoppingHook so that a resumed run continues its count.

    The hook counts the validations without improvement, but does not save the count in the
    checkpoint. The checkpoint contains the metrics of all earlier validations, from which the patch
    counts again. The patch also skips `before_run` if no training loop was built, because the hook
    would build the training loop, and so read the training set, for a test.
    """
    if 'before_train' in vars(EarlyStoppingHook):
        return
    upstream = EarlyStoppingHook.before_run

    @replaces(upstream)
    def before_run(self: EarlyStoppingHook, runner: Runner) -> None:
        if isinstance(runner._train_loop, BaseLoop):
            upstream(self, runner)

    def before_train(self: EarlyStoppingHook, runner: Runner) -> None:
        """Count the validations without improvement of the run that is resumed."""
        scores = runner.message_hub.log_scalars.get(f'val/{self.monitor}')
        if runner.iter == 0 or scores is None:
            return
        self.wait_count = 0
        self.best_score = -np.inf if self.rule == 'greater' else np.inf
        for score in scores.data[0]:
            stop, reason = self._check_stop_condition(score)
            if stop:
                runner.train_loop.stop_training = True
                runner.logger.info(f'Training had already been stopped early: {reason}')
                return

    EarlyStoppingHook.before_run, EarlyStoppingHook.before_train = before_run, before_train


# ---------------------------------------------------------------- configs


def pass_on_folders() -> None:
    """Patch mmengine so that a new `data_root` or `levels` of a config changes its datasets too.

    A config may be given another folder by `--cfg-options data_root=DIR`, or by `data_root = DIR`
    in a config that is based on it. Without the patch this changes only the variable, because the
    loaders were already built from the old value. With the patch, each dataset that has the old
    value as its `data_root` gets the new value, also inside of dataset wrappers, and a folder of
    levels inside the old `data_root` moves with it. In the same way, a new value of `levels`
    reaches the datasets and the transform LoadLevels, also in a pipeline that the new config has
    taken from its base. A folder that is set on a dataset directly at the same time takes
    precedence. The patch applies only to configs that list mmdfer in `custom_imports`.
    """
    upstream = Config._merge_a_into_b
    if is_patched(upstream):
        return

    @replaces(upstream)
    def _merge_a_into_b(a: dict, b: dict, *args: Any, **kwargs: Any) -> dict:
        if isinstance(a, dict) and isinstance(b, dict) and (_imports_us(a) or _imports_us(b)):
            changes = {
                key: (b[key], a[key])
                for key in ('data_root', 'levels')
                if isinstance(a.get(key), str) and isinstance(b.get(key), str)
            }
            if changes:
                b, a = b.copy(), a.copy()
                for key in [key for key in b if re.fullmatch('levels|.*_dataloader', str(key))]:
                    b.update(_change_folders({key: b[key]}, changes))
                for key in [key for key in a if str(key).endswith('_dataloader')]:
                    a[key] = _change_pipelines(a[key], changes)
        return upstream(a, b, *args, **kwargs)

    Config._merge_a_into_b = staticmethod(_merge_a_into_b)


def _imports_us(config: dict) -> bool:
    """Return whether a config lists mmdfer in `custom_imports`."""
    imports = (config.get('custom_imports') or {}).get('imports') or ()
    return 'mmdfer' in ([imports] if isinstance(imports, str) else imports)


def _change_folders(part: Any, changes: Mapping[str, tuple[str, str]]) -> Any:
    """Return a copy of a part of a config with other folders.

    Args:
        part: A part of a config, such as a loader.
        changes: The old and the new value of `data_root`, of `levels`, or of both.
    """
    if isinstance(part, (list, tuple)):
        return type(part)(_change_folders(item, changes) for item in part)
    if not isinstance(part, dict):
        return part
    copy = part.copy()
    for key, value in part.items():
        if key in ('data_root', 'levels', 'folder') and isinstance(value, str):
            copy[key] = _change_folder(key, value, changes)
        else:
            copy[key] = _change_folders(value, changes)
    return copy


def _change_pipelines(part: Any, changes: Mapping[str, tuple[str, str]]) -> Any:
    """Return a copy of a part of a config with other folders in its lists named `pipeline`."""
    if not isinstance(part, dict):
        return part
    copy = part.copy()
    for key, value in part.items():
        listed = key == 'pipeline' and isinstance(value, list)
        copy[key] = (_change_folders if listed else _change_pipelines)(value, changes)
    return copy


def _change_folder(key: str, value: str, changes: Mapping[str, tuple[str, str]]) -> str:
    """Return the new value of a `data_root`, of `levels` of a dataset, or of a `folder` of levels.

    A folder of levels inside the old `data_root` moves with it.
    """
    if key != 'data_root' and 'levels' in changes and value == changes['levels'][0]:
        return changes['levels'][1]
    old, new = changes.get('data_root', (value, value))
    inside = key != 'data_root' and value.startswith(f'{old}/')
    return new + value[len(old) :] if value == old or inside else value


def find_own_configs() -> None:
    """Patch mmengine so that `mmdfer::align_dfer_dfew.py` names a config of this package.

    Such a name works as a `_base_` and in `mmengine.hub`, for a wheel and for an editable install.
    Without the patch, mmengine accepts only the packages of a fixed list. It also searches them
    with `pkg_resources`, which setuptools no longer contains, and does not find a config that lies
    directly in the folder `configs`.
    """
    upstream = Config._get_cfg_path
    if is_patched(upstream):
        return

    @replaces(upstream)
    def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        own = _own_config(cfg_path)
        return upstream(cfg_path, filename) if own is None else (own, None)

    Config._get_cfg_path = staticmethod(_get_cfg_path)
    theirs = mmengine.hub.get_config, mmengine.hub.get_model

    @replaces(theirs[0])
    def get_config(cfg_path: str, pretrained: bool = False) -> Config:
        if (own := _own_config(cfg_path)) is None:
            return theirs[0](cfg_path, pretrained)
        if pretrained:
            raise DFERError(f'{cfg_path}: mmdfer publishes no weights; leave pretrained out')
        return Config.fromfile(own)

    @replaces(theirs[1])
    def get_model(cfg_path: str, pretrained: bool = False, **kwargs: Any) -> Any:
        if _own_config(cfg_path) is None:
            return theirs[1](cfg_path, pretrained, **kwargs)
        model = get_config(cfg_path, pretrained).model
        with DefaultScope.overwrite_default_scope('mmaction'):
            return MODELS.build(model, default_args=kwargs)

    for module in (mmengine.hub, mmengine.hub.hub):
        module.get_config, module.get_model = get_config, get_model


def _own_config(name: str) -> str | None:
    """Return the path of the config that `mmdfer::NAME` names, or None for any other name."""
    package, _, below = name.partition('::')
    return str(find_installed_config(name)) if package == 'mmdfer' and below else None


# ---------------------------------------------------------------- preprocessing


def format_configs_once() -> None:
    """Patch mmengine so that it keeps the formatted texts of the last configs.

    Without the patch, yapf formats the same config four times at the start of a run and once for
    each checkpoint.
    """
    upstream = mmengine_config.FormatCode
    if is_patched(upstream):
        return

    @functools.lru_cache(maxsize=8)
    def format_text(text: str, style: tuple, options: tuple) -> tuple[str, bool]:
        return upstream(text, style_config=dict(style), **dict(options))

    @replaces(upstream)
    def format_code(text: str, style_config: dict, **options: Any) -> tuple[str, bool]:
        return format_text(text, tuple(style_config.items()), tuple(options.items()))

    mmengine_config.FormatCode = format_code


def hand_backbone_to_preprocessor() -> None:
    """Patch MMAction2's recognizers to pass their backbone to the data preprocessor.

    A data preprocessor with a method `adopt` receives the backbone through this method, because the
    weights of the backbone determine the mean and std that frames are normalised with.
    BaseRecognizer builds the data preprocessor before the backbone.
    """
    from mmaction.models import BaseRecognizer

    upstream = BaseRecognizer.__init__
    if is_patched(upstream):
        return

    @replaces(upstream)
    def build(self: BaseRecognizer, *args: Any, **kwargs: Any) -> None:
        upstream(self, *args, **kwargs)
        if hasattr(self.data_preprocessor, 'adopt'):
            self.data_preprocessor.adopt(self.backbone)

    BaseRecognizer.__init__ = build


# ---------------------------------------------------------------- ranks


def write_test_metrics_once() -> None:
    """Patch mmengine so that only the main rank writes the metrics of a test.

    Without the patch, LoggerHook writes the metrics on each rank to the same file. Two ranks that
    write at the same time leave a damaged file.
    """
    upstream = mmengine_logger_hook.dump
    names = _names_in(LoggerHook.after_test_epoch)
    if is_patched(upstream) or {'is_main_process', 'master_only'} & names:
        return
    mmengine_logger_hook.dump = replaces(upstream)(master_only(upstream))


# For each launcher, the environment variables of the rank and the world size, which
# mmengine.dist.init_dist reads.
_RANK_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
}


def join_cpu_ranks() -> None:
    """Patch mmengine's Runner to call `init_cpu_ranks`, so that stock tools run on CPUs too."""
    upstream = Runner.setup_env
    if is_patched(upstream):
        return

    @replaces(upstream)
    def setup_env(self: Runner, env_cfg: dict) -> None:
        init_cpu_ranks(self.launcher)
        upstream(self, env_cfg)

    Runner.setup_env = setup_env


def leave_untrained_models_unwrapped() -> None:
    """Patch mmengine's Runner so that several ranks can test a model without trained parameters.

    DistributedDataParallel refuses such a model, for example zero-shot CLIP, although there are no
    gradients to exchange.
    """
    upstream = Runner.wrap_model
    if is_patched(upstream):
        return

    @replaces(upstream)
    def wrap_model(self: Runner, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        trained = any(parameter.requires_grad for parameter in model.parameters())
        if trained or not self.distributed:
            return upstream(self, model_wrapper_cfg, model)
        return model.to(get_device())

    Runner.wrap_model = wrap_model


def init_cpu_ranks(launcher: str) -> None:
    """Initialise the process group with gloo on a machine without an accelerator.

    mmengine's `init_dist` fails on such a machine, because it selects a CUDA device first. The
    Runner skips `init_dist` if the process group is initialised already, so call this function
    before the Runner is built. The function does nothing on a machine with an accelerator, with the
    launcher 'none', or if the process group is initialised already.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi', as in MMAction2's tools.

    Raises:
        DFERError: If the launcher is unknown, if it did not set its environment variables, or if
            another program uses the port.
    """
    if launcher == 'none' or get_device() not in ('cpu', 'mps') or is_distributed():
        return
    if launcher not in _RANK_VARIABLES:
        raise DFERError(f'launcher {launcher!r} is unknown; give none, pytorch, slurm or mpi')
    rank, world_size = _RANK_VARIABLES[launcher]
    try:
        os.environ['RANK'], os.environ['WORLD_SIZE'] = os.environ[rank], os.environ[world_size]
        if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
            os.environ['MASTER_ADDR'] = _first_slurm_host(os.environ['SLURM_NODELIST'])
        os.environ.setdefault('MASTER_PORT', '29500')
        os.environ['MASTER_ADDR'] = os.environ['MASTER_ADDR']  # if it is not set: the error below
    except KeyError as error:
        raise DFERError(
            f'launcher {launcher!r}: the environment variable {error.args[0]} is not set; '
            'start the ranks with tools/dist_train.sh or tools/slurm_train.sh'
        ) from None
    with explain_taken_port():
        torch.distributed.init_process_group('gloo')
    # A gloo thread that is still running when the interpreter exits sometimes aborts the process.
    atexit.register(_leave_ranks)


@contextmanager
def explain_taken_port() -> Iterator[None]:
    """Turn torch's error about a used or unreachable port into one line.

    Raises:
        DFERError: If the ranks cannot connect at MASTER_PORT.
    """
    try:
        yield
    except torch.distributed.DistNetworkError as error:
        port = os.environ.get('MASTER_PORT')
        used = 'EADDRINUSE' in str(error)
        reason = 'another program uses this port' if used else 'no rank answers at this port'
        raise DFERError(
            f'MASTER_PORT={port} on {os.environ.get("MASTER_ADDR")}: the ranks cannot connect, '
            f'because {reason}; set MASTER_PORT to another port (PORT for tools/dist_*.sh)'
        ) from error


def _leave_ranks() -> None:
    """Destroy the process group before the interpreter exits."""
    if torch.distributed.is_initialized():
        # A DistributedDataParallel in a reference cycle would keep the group and its threads.
        gc.collect()
        torch.distributed.destroy_process_group()


def _first_slurm_host(nodelist: str) -> str:
    """Return the first host of a Slurm node list, such as `node[3-5]`."""
    try:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostname', nodelist], capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise DFERError(
            f'SLURM_NODELIST={nodelist!r}: scontrol cannot resolve the list ({error}); set '
            'MASTER_ADDR to the name of the first node'
        ) from None
    return hosts.stdout.split()[0]

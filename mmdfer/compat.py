"""What upstream releases broke: one function each, which does nothing where upstream is whole.

`apply()` calls them in order and may be called again. It has to run before anything imports
`mmaction.models`, so `mmdfer/__init__.py` calls it first; a config's
`custom_imports=dict(imports=['mmdfer'])` is early enough for MMAction2's own tools.

- `require_mmcv`: without mmcv, MMAction2 ends in a bare ModuleNotFoundError.
- `hush_missing_operator`: mmcv-lite warns at each import of an operator that it does not have.
- `stub_missing_drn`: the wheel of mmaction2 1.2.0 lacks `mmaction.models.localizers.drn`.
- `load_files_safely`: mmengine 0.10.7 cannot load its own checkpoints, onedl-mmengine 0.10.12
  executes what they hold.
- `load_urls_safely`: `load_from='https://...'` executes what the file holds, up to torch 2.15.
- `disarm_config_text`: resume executes the config that the checkpoint holds, in both mmengines.
- `write_test_metrics_once`: every rank writes the metrics of a test to the same file at once.
- `score_bfloat16`: MMAction2's heads hand their scores to numpy, which knows no bfloat16.
- `compare_our_metrics`: mmengine's hooks do not know that a greater WAR, UAR or recall is better.
- `resume_early_stopping`: EarlyStoppingHook forgets on resume what it has counted, and builds the
  training loop for a test.
- `hand_backbone_to_preprocessor`: a preprocessor cannot know what its recognizer's weights expect.
- `join_cpu_ranks`: ranks want CUDA, in both mmengines.
- `pass_on_data_root`: a `data_root` on the command line reaches no loader.
- `find_own_configs`: mmengine reads `package::config` of OpenMMLab's own packages alone.
"""

from __future__ import annotations

import atexit
import functools
import gc
import inspect
import os
import re
import struct
import subprocess
import sys
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn, TypeVar

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

from .errors import DFERError
from .installed import find_installed_config

_REFUSED = 'mmdfer refuses '
MapLocation = str | torch.device | dict | Callable | None
Function = TypeVar('Function', bound=Callable)


class CheckpointNotFoundError(DFERError, FileNotFoundError):
    """There is no checkpoint at that path."""


class MissingMMCVError(DFERError, ImportError):
    """Neither mmcv nor mmcv-lite is installed."""


def apply() -> None:
    """Mends what is broken in the installed releases, and nothing else.

    Raises:
        MissingMMCVError: if neither mmcv nor mmcv-lite is installed.
    """
    require_mmcv()
    hush_missing_operator()
    stub_missing_drn()
    load_files_safely()
    load_urls_safely()
    disarm_config_text()
    write_test_metrics_once()
    score_bfloat16()
    compare_our_metrics()
    resume_early_stopping()
    hand_backbone_to_preprocessor()
    join_cpu_ranks()
    pass_on_data_root()
    find_own_configs()


# ---------------------------------------------------------------- patches

_MARK = '_patched_by_mmdfer'


def replaces(upstream: Callable) -> Callable[[Function], Function]:
    """Decorate a replacement of `upstream`, as `functools.wraps` does, so that it is recognised.

    A wrapper that another package makes around the replacement with `functools.wraps` copies the
    mark, and one that it makes around `upstream` has none. So `is_patched` tells whether our
    replacement is called, whoever else patches the same function.
    """

    def mark(replacement: Function) -> Function:
        functools.update_wrapper(replacement, upstream)
        vars(replacement)[_MARK] = True
        return replacement

    return mark


def is_patched(function: Callable) -> bool:
    return getattr(function, _MARK, False)


def _names_in(function: Callable) -> set[str]:
    """Return the globals and attributes that a function uses, also where others wrapped it."""
    return set(inspect.unwrap(function).__code__.co_names)


# ---------------------------------------------------------------- packages


def require_mmcv() -> None:
    """Names the remedy where mmcv is missing; its version MMAction2 checks itself."""
    if find_spec('mmcv') is None:
        raise MissingMMCVError(
            'mmcv is not installed: pip install "mmcv-lite>=2.1,<2.2" '
            '(or build mmcv 2.1 yourself if you need its CUDA operators)'
        )


def hush_missing_operator() -> None:
    """Leaves out mmcv-lite's warning about deformable attention, which no recognizer here has."""
    warnings.filterwarnings('ignore', message=r'Fail to import ``MultiScaleDeformableAttention``')


class DRN:
    """Stands where MMAction2's temporal localizer of that name should be.

    Raises:
        ImportError: when built, since the installed wheel does not have the real one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ImportError(
            'the installed mmaction2 wheel lacks mmaction.models.localizers.drn: '
            'install MMAction2 from its source repository to use DRN'
        )


def stub_missing_drn() -> None:
    """Lets `import mmaction.models` pass where the wheel lacks `localizers/drn/drn.py`.

    `mmaction/models/localizers/__init__.py` imports the class `DRN` from there, and a failure
    breaks the whole package. The folder is looked up without importing it.
    """
    package = find_spec('mmaction')
    if package is None or package.submodule_search_locations is None:
        return  # no MMAction2: its own import error says so better than we can
    folders = [f'{root}/models/localizers' for root in package.submodule_search_locations]
    if PathFinder.find_spec('drn', folders) is not None:
        return
    name = 'mmaction.models.localizers.drn'
    parent, leaf = types.ModuleType(name), types.ModuleType(f'{name}.drn')
    parent.__path__ = []  # a package without files
    vars(parent)['drn'], vars(leaf)['DRN'] = leaf, DRN
    sys.modules.setdefault(parent.__name__, parent)
    sys.modules.setdefault(leaf.__name__, leaf)


# ---------------------------------------------------------------- checkpoints, unexecuted


def _refuse(name: str) -> NoReturn:
    raise UnpicklingError(f'{_REFUSED}{name}')


class _History(HistoryBuffer):
    """Restores a HistoryBuffer from numbers only, then is one.

    The real `__setstate__` puts functions named by the file into a table shared by every
    buffer; this one takes the two histories and the length.
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
    """Stands for `builtins.getattr`, with which the file names HistoryBuffer's statistics."""
    if owner is not _History or name not in ('mean', 'max', 'min', 'current'):
        _refuse(f'builtins.getattr({owner!r}, {name!r})')
    return getattr(HistoryBuffer, name)


def _numeric_dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype:
    """Stands for `numpy.dtype`: numbers and text only, no objects and no records."""
    dtype = np.dtype(code, align=align, copy=copy)
    if dtype.kind not in 'biufcSU':
        _refuse(f'numpy.dtype({code!r})')
    return dtype


def _rebuild_function(value: np.ndarray | np.generic) -> Callable:
    """Return the private function of numpy with which a pickle makes such a value."""
    reduced = value.__reduce__()
    assert isinstance(reduced, tuple)
    return reduced[0]


def _checkpoint_globals() -> list[Callable | tuple[Callable, str]]:
    """List what a checkpoint of mmengine may name besides torch's own, as (stand-in, name)."""
    rebuild_array, rebuild_scalar = _rebuild_function(np.empty(0)), _rebuild_function(np.float64(0))
    allowed: list[Callable | tuple[Callable, str]] = [
        (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_statistic, 'builtins.getattr'),
        (np.ndarray, 'numpy.ndarray'),
        (_numeric_dtype, 'numpy.dtype'),
    ]
    for core in ('core', '_core'):  # numpy 1 and 2; each reads files of the other
        allowed.append((rebuild_array, f'numpy.{core}.multiarray._reconstruct'))
        allowed.append((rebuild_scalar, f'numpy.{core}.multiarray.scalar'))
    # Not named by a file, but the unpickler asks for the class of what it sets a state on.
    classes = {type(np.dtype(code)) for code in '?bhilqBHILQefdgFDGSU'}
    return allowed + [(dtype, f'numpy.dtypes.{dtype.__name__}') for dtype in classes]


_CHECKPOINT_GLOBALS = _checkpoint_globals()

# What torch's reader raises on bytes that are no checkpoint; it has no error class of its own.
_UNREADABLE = (
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    OverflowError,
    OSError,  # a file cut inside the zip's table: torch seeks to before its beginning
    struct.error,
)


def load_from_local(filename: str | os.PathLike, map_location: MapLocation = None) -> dict:
    """Loads a local checkpoint and executes nothing that stands in it.

    Args:
        filename: a file that `torch.save` or mmengine wrote, or `*.safetensors`.
        map_location: as in `torch.load`; for safetensors a device or None.

    Returns:
        The checkpoint; its config texts are moved to `['meta']['config_text']`, see
        `move_config_text`. Of a safetensors file: the state dict.

    Raises:
        CheckpointNotFoundError: if there is no such file.
        DFERError: if the file is empty, truncated or no checkpoint, or if it names anything
            but tensors, numbers, text and mmengine's log histories: one line with the file,
            the name and the remedy.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise CheckpointNotFoundError(f'{path}: no such checkpoint; check the path')
    if path.stat().st_size == 0:
        raise DFERError(f'{path}: the checkpoint is empty (0 bytes); use an earlier one')
    if path.suffix == '.safetensors':
        return _load_safetensors(path, map_location)
    checkpoint = _load_weights_only(path, map_location)
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise DFERError(f'{path}: holds a {kind}, not a checkpoint; give a dict of tensors')
    return move_config_text(checkpoint)


def _load_weights_only(file: Any, map_location: MapLocation = None, **_: Any) -> Any:
    """`torch.load` that builds only what `_CHECKPOINT_GLOBALS` and torch itself allow."""
    try:
        with torch.serialization.safe_globals(_CHECKPOINT_GLOBALS):
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
            f'{file}: cannot be read as a checkpoint ({type(error).__name__}: {reason}); '
            'give a file that torch.save, mmengine or safetensors wrote'
        ) from None


def _refusal(message: str) -> str:
    """One line for what torch says over many."""
    named = re.search(rf'{_REFUSED}(.+)|GLOBAL (\S+)|unrecognized function (.+)', message)
    if named is None:
        reason = message.split('WeightsUnpickler error:')[-1].strip().split('\n')[0]
        return (
            f'cannot be read without executing it ({reason}); '
            'give a file that torch.save, mmengine or safetensors wrote'
        )
    name = next(filter(None, named.groups()))
    return (
        f'refused, since it names {name} and loading that could execute code; '
        'nothing was executed; ask its author for a file of tensors only, such as safetensors'
    )


def _starts_as_zip(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(4) == b'PK\x03\x04'


def _load_safetensors(path: Path, map_location: MapLocation) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not isinstance(map_location, str | torch.device | None):
        raise DFERError(f'{path}: map_location must be a device, not {map_location!r}')
    try:
        return load_file(path, device=str(map_location or 'cpu'))
    except SafetensorError as error:
        raise DFERError(
            f'{path}: the safetensors file is damaged ({error}); copy it again'
        ) from None


def load_files_safely() -> None:
    """Has mmengine, and so every stock tool, load local checkpoints with `load_from_local`.

    mmengine 0.10.7 fails on what it wrote itself under torch >= 2.6. onedl-mmengine 0.10.12
    allows plain `getattr`, through which a file reaches `eval`, and on a refusal loads again,
    executing. A loader that somebody else registered for local paths is left in place.
    """
    upstream = mmengine_checkpoint.load_from_local
    if 'safe_globals' in _names_in(upstream):
        return
    if CheckpointLoader._schemes[''] is upstream:
        CheckpointLoader.register_scheme('', load_from_local, force=True)
    if hasattr(mmengine_checkpoint, '_safe_torch_load'):  # onedl: ceph, pavi, its home folder
        mmengine_checkpoint._safe_torch_load = _load_weights_only


def load_urls_safely() -> None:
    """Has mmengine load downloaded checkpoints as weights only.

    `torch.hub` still executes them unless told otherwise, and mmengine does not tell it.
    """
    upstream = mmengine_checkpoint.load_url
    if inspect.signature(upstream).parameters['weights_only'].default or is_patched(upstream):
        return
    safe_load = functools.partial(upstream, weights_only=True)

    @replaces(upstream)
    def load_url(url: str, *args: Any, **kwargs: Any) -> Any:
        try:
            with torch.serialization.safe_globals(_CHECKPOINT_GLOBALS):
                return safe_load(url, *args, **kwargs)
        except UnpicklingError as error:
            raise DFERError(f'{url}: {_refusal(str(error))}') from None

    mmengine_checkpoint.load_url = load_url


def move_config_text(checkpoint: dict) -> dict:
    """Moves the config texts of a checkpoint to where nothing executes them.

    `Runner.resume` and mmengine's inferencers hand `meta['config']`, `meta['cfg']` and
    `message_hub['runtime_info']['cfg']` to `Config.fromstring`, which runs them as Python.

    Args:
        checkpoint: changed in place.

    Returns:
        The checkpoint. `['meta']['config_text']` holds the first text found.
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
    """Applies `move_config_text` to whatever mmengine loads, from files and elsewhere."""
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
    """Has MMAction2's heads compute loss and accuracy of bfloat16 scores in float32."""
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

# DFERMetric's names, with a prefix or without.
_GREATER_IS_BETTER = re.compile(r'(.+/)?(WAR|UAR|recall/.+)')


def compare_our_metrics() -> None:
    """Have CheckpointHook and EarlyStoppingHook infer the rule of DFERMetric's metrics.

    `save_best='auto'` and a `monitor` without `rule` otherwise end in a ValueError, the former
    after the first epoch. The hooks' own lists match parts of names, where `uar` would also match
    a squared error; so these names are matched whole.
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
    """Have EarlyStoppingHook count on where a resumed run stopped counting.

    It counts the validations without improvement, and keeps the count in no checkpoint. The
    metrics of all validations are in each, and are counted again. `before_run` is left out where
    no training loop was built: to look at it would build one, and read the training set.
    """
    if 'before_train' in vars(EarlyStoppingHook):
        return
    upstream = EarlyStoppingHook.before_run

    @replaces(upstream)
    def before_run(self: EarlyStoppingHook, runner: Runner) -> None:
        if isinstance(runner._train_loop, BaseLoop):
            upstream(self, runner)

    def before_train(self: EarlyStoppingHook, runner: Runner) -> None:
        """Count the validations that came before a resumed run."""
        scores = runner.message_hub.log_scalars.get(f'val/{self.monitor}')
        if runner.iter == 0 or scores is None:
            return
        self.wait_count = 0
        self.best_score = -np.inf if self.rule == 'greater' else np.inf
        for score in scores.data[0]:
            stop, reason = self._check_stop_condition(score)
            if stop:
                runner.train_loop.stop_training = True
                runner.logger.info(f'Training had stopped: {reason}')
                return

    EarlyStoppingHook.before_run, EarlyStoppingHook.before_train = before_run, before_train


# ---------------------------------------------------------------- configs


def pass_on_data_root() -> None:
    """Patch mmengine so that a `data_root` which replaces a config's own reaches its loaders.

    `--cfg-options data_root=DIR`, and `data_root = DIR` in a config with a `_base_`, change a
    variable that the loaders were built from already. Each dataset, however deep in wrappers, whose
    `data_root` is the old value takes the new one, unless it is given one of its own in the same
    place. Only configs whose `custom_imports` name mmdfer are changed.
    """
    upstream = Config._merge_a_into_b
    if is_patched(upstream):
        return

    @replaces(upstream)
    def _merge_a_into_b(a: dict, b: dict, *args: Any, **kwargs: Any) -> dict:
        if isinstance(a, dict) and isinstance(b, dict) and (_imports_us(a) or _imports_us(b)):
            old, new = b.get('data_root'), a.get('data_root')
            if isinstance(old, str) and isinstance(new, str):
                b = b.copy()
                for key in [key for key in b if str(key).endswith('_dataloader')]:
                    b[key] = _replace_root(b[key], old, new)
        return upstream(a, b, *args, **kwargs)

    Config._merge_a_into_b = staticmethod(_merge_a_into_b)


def _imports_us(config: dict) -> bool:
    imports = (config.get('custom_imports') or {}).get('imports') or ()
    return 'mmdfer' in ([imports] if isinstance(imports, str) else imports)


def _replace_root(part: Any, old: str, new: str) -> Any:
    """Return a loader's config with `data_root=new` wherever it was `old`."""
    if isinstance(part, (list, tuple)):
        return type(part)(_replace_root(item, old, new) for item in part)
    if not isinstance(part, dict):
        return part
    copy = part.copy()
    for key, value in part.items():
        same = key == 'data_root' and value == old
        copy[key] = new if same else _replace_root(value, old, new)
    return copy


def find_own_configs() -> None:
    """Patch mmengine so that `mmdfer::align_dfer_dfew.py` names a config of this package.

    It works as a `_base_` and in `mmengine.hub`, for a wheel and for an editable install. mmengine
    accepts only the packages of a fixed list, looks for them with `pkg_resources`, which setuptools
    no longer has, and finds no config beside the top folder.
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
    """Return the path of the config that `mmdfer::NAME` names; None for every other name."""
    package, _, below = name.partition('::')
    return str(find_installed_config(name)) if package == 'mmdfer' and below else None


# ---------------------------------------------------------------- preprocessing


def hand_backbone_to_preprocessor() -> None:
    """Patch MMAction2's recognizers to hand their backbone to a preprocessor that has `adopt`.

    BaseRecognizer builds the preprocessor before the backbone, whose weights decide with which mean
    and std frames are normalised.
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
    """Has the main rank alone write the metrics of a test.

    mmengine's LoggerHook has each rank write them to one file, which two at once leave torn.
    """
    upstream = mmengine_logger_hook.dump
    names = _names_in(LoggerHook.after_test_epoch)
    if is_patched(upstream) or {'is_main_process', 'master_only'} & names:
        return
    mmengine_logger_hook.dump = replaces(upstream)(master_only(upstream))


# launcher -> its own names for rank and world size, as mmengine.dist.init_dist reads them
_RANK_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
}


def join_cpu_ranks() -> None:
    """Patch mmengine's Runner to join the ranks by `init_cpu_ranks`, in stock tools too."""
    upstream = Runner.setup_env
    if is_patched(upstream):
        return

    @replaces(upstream)
    def setup_env(self: Runner, env_cfg: dict) -> None:
        init_cpu_ranks(self.launcher)
        upstream(self, env_cfg)

    Runner.setup_env = setup_env


def init_cpu_ranks(launcher: str) -> None:
    """Joins the ranks over gloo where there is no accelerator; call before the Runner is built.

    mmengine's `init_dist` sets a CUDA device first; the Runner skips it once ranks are joined.
    Does nothing with an accelerator, with launcher 'none', or when ranks are joined already.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi', as in MMAction2's tools.

    Raises:
        DFERError: if the launcher is unknown or did not set its environment variables.
    """
    if launcher == 'none' or get_device() not in ('cpu', 'mps') or is_distributed():
        return
    if launcher not in _RANK_VARIABLES:
        raise DFERError(f'launcher {launcher!r} is unknown; use none, pytorch, slurm or mpi')
    rank, world_size = _RANK_VARIABLES[launcher]
    try:
        os.environ['RANK'], os.environ['WORLD_SIZE'] = os.environ[rank], os.environ[world_size]
        if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
            os.environ['MASTER_ADDR'] = _first_slurm_host(os.environ['SLURM_NODELIST'])
        os.environ.setdefault('MASTER_PORT', '29500')
        os.environ['MASTER_ADDR'] = os.environ['MASTER_ADDR']  # nobody set it: the error below
    except KeyError as error:
        raise DFERError(
            f'launcher {launcher!r}: the environment variable {error.args[0]} is not set; '
            'start the ranks with tools/dist_train.sh or tools/slurm_train.sh'
        ) from None
    with explain_taken_port():
        torch.distributed.init_process_group('gloo')
    # A gloo thread that outlives the interpreter aborts the process now and then.
    atexit.register(_leave_ranks)


@contextmanager
def explain_taken_port() -> Iterator[None]:
    """Turn torch's error about a port that another program uses into one line.

    Raises:
        DFERError: The ranks cannot meet at MASTER_PORT.
    """
    try:
        yield
    except torch.distributed.DistNetworkError as error:
        port = os.environ.get('MASTER_PORT')
        reason = 'another program uses it' if 'EADDRINUSE' in str(error) else 'no rank answers'
        raise DFERError(
            f'MASTER_PORT={port} on {os.environ.get("MASTER_ADDR")}: the ranks cannot meet there, '
            f'{reason}; set MASTER_PORT to another port (tools/dist_*.sh: PORT)'
        ) from error


def _leave_ranks() -> None:
    if torch.distributed.is_initialized():
        gc.collect()  # a DistributedDataParallel in a cycle would keep the group, and its threads
        torch.distributed.destroy_process_group()


def _first_slurm_host(nodelist: str) -> str:
    try:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostname', nodelist], capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise DFERError(
            f'SLURM_NODELIST={nodelist!r}: scontrol does not resolve it ({error}); set MASTER_ADDR'
        ) from None
    return hosts.stdout.split()[0]

"""Explain names of version 0.1 that a config may still use.

This module handles the names that mmengine looks up while it reads a config: variables of base
configs, and modules. Classes and options of version 0.1 are refused where they are built.
``CHANGELOG.md`` has the complete list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from mmdfer.errors import DFERError

# Variables of the configs under configs/_base_, such as `_base_.stages`, and their replacements.
VARIABLES = {
    **dict.fromkeys(('stages', 'epochs'), '_base_.custom_hooks[0].stages'),
    **dict.fromkeys(
        ('cliper_train', 'former_dfer_train', 'ial_train', 'picked_train_view', 'plain'),
        '_base_.train_view',
    ),
    **dict.fromkeys(
        ('cliper_test', 'former_dfer_test', 'ial_test', 'picked_test_view', 'whole'),
        '_base_.test_view',
    ),
    'train_view_2d': '_base_.train_view of _base_/views/faces_112_2d.py',
    'test_view_2d': '_base_.test_view of _base_/views/faces_112_2d.py',
    'bright': '_base_.train_view of _base_/views/dfer_clip_224_bright.py',
    'rotated': '_base_.train_view of _base_/views/dfer_clip_224_rotated.py',
    'weights': '_base_.load_from, or _base_.model.backbone.pretrained',
    **dict.fromkeys(('train_frames', 'decode', 'crop'), 'a part of _base_.train_view'),
    **dict.fromkeys(('test_frames', 'pack_2d', 'pack_3d'), 'a part of _base_.test_view'),
}

# Modules of the package, as configs name them in `custom_imports` or in
# `type='mmdfer.engine.bap.BAPHook'`, and their replacements.
MODULES = {
    'datasets.bank': 'features.bank',
    'datasets.check': 'datasets.licensed.verify',
    'datasets.containers': 'datasets.transforms.containers',
    'datasets.dfew': 'datasets.licensed.dfew',
    'datasets.disk': 'datasets.licensed.discovery',
    'datasets.ferv39k': 'datasets.licensed.ferv39k',
    'datasets.fingerprints': 'features.fingerprints',
    'datasets.frames': 'datasets.transforms.frame_reader',
    'datasets.freq_hd': 'datasets.transforms.freq_hd',
    'datasets.listed': 'datasets.licensed.base',
    'datasets.lists': 'datasets.licensed.label_files',
    'datasets.mafw': 'datasets.licensed.mafw',
    'datasets.pillow': 'datasets.transforms.pillow',
    'datasets.tsn': 'datasets.transforms.samplers',
    'datasets.videos': 'datasets.transforms.video_reader',
    'engine.accumulation': 'engine.hooks.accumulation_hook',
    'engine.amp': 'engine.optimizers.autocast_optim_wrapper',
    'engine.bap': 'engine.hooks.bap_hook',
    'engine.checkpoint': 'engine.hooks.checkpoint_hook',
    'engine.classes': 'engine.hooks.class_names_hook',
    'engine.features': 'features.extraction',
    'engine.logs': 'engine.runner.log_processor',
    'engine.progress': 'engine.runner.progress',
    'engine.report': 'engine.hooks.report_hook',
    'engine.schedule': 'engine.runner.resume_schedule',
    'engine.setup': 'engine.hooks.setup_hook',
    'engine.show': 'engine.hooks.show_clips_hook',
    'engine.unreadable': 'engine.hooks.unreadable_hook',
    'engine.unwrap': 'engine.runner.unwrap',
    'evaluation.folds': 'experiments.cross_validation_tables',
    'evaluation.leaderboard': 'experiments.leaderboard_tables',
    'evaluation.tables': 'experiments.tables',
    'launch': 'engine.runner.build',
    'model_index': 'experiments.model_index',
    'models.cache': 'models.tensor_cache',
    'models.class_names': 'models.heads.class_name_head',
    'models.clip': 'models.backbones.frozen_clip',
    'models.clip_weights': 'models.backbones.clip_weights',
    'models.cliper': 'models.heads.cliper_head',
    'models.cocoop': 'models.heads.cocoop_head',
    'models.coop': 'models.heads.coop_head',
    'models.descriptions': 'models.heads.class_descriptions',
    'models.dfer_clip': 'models.heads.dfer_clip_head',
    'models.expression_clustered': 'models.losses.expression_clustered_loss',
    'models.former_dfer': 'models.backbones.former_dfer',
    'models.identity': 'models.json_tensor',
    'models.intensity': 'models.losses.intensity_aware_loss',
    'models.jas': 'models.necks.jas',
    'models.labels': 'models.losses.labels',
    'models.m3dfel': 'models.backbones.m3dfel',
    'models.mat': 'models.heads.mat_head',
    'models.p3d': 'models.backbones.p3d',
    'models.packed': 'models.backbones.packed_linear',
    'models.patterns': 'models.parameter_patterns',
    'models.recognizer': 'models.recognizers.clip_recognizer',
    'models.sharded': 'models.recognizers.sharded_prompts',
    'models.synth_clip': 'synthetic.small_clip',
    'models.temporal': 'models.necks.temporal_neck',
    'models.text_head': 'models.heads.text_head',
    'models.towers': 'models.backbones.fast_towers',
    'models.vgg': 'models.backbones.vgg',
    'models.video_resnet': 'models.backbones.video_resnet',
    'runs': 'experiments.runs',
}

_MODULE = re.compile(r'\bmmdfer\.([\w.]+)')
_ENCODE_ONCE = re.compile(r'custom_hooks\.(\d+)\.(bank|batch_size|num_workers)')


def explain(error: Exception) -> str | None:
    """Explain which name replaces a name of version 0.1 that mmengine has not found in a config.

    Args:
        error: The error that mmengine raised while it read the config: an AttributeError of
            `_base_.NAME`, a KeyError of `{{_base_.NAME}}`, or an ImportError of `custom_imports`.

    Returns:
        The explanation in one line, or None if the name is not one of version 0.1.
    """
    if isinstance(error, ImportError):
        return next(filter(None, map(_explain_module, _MODULE.findall(str(error)))), None)
    if isinstance(error, AttributeError):
        name = error.name if isinstance(error.obj, ConfigDict) else None
    else:
        name = error.args[0] if error.args else None
    if name not in VARIABLES:
        return None
    return f'_base_.{name} was removed in version 0.2; use {VARIABLES[name]}'


def check_types(cfg: Config) -> None:
    """Check that a config names no class by a module path of version 0.1.

    Args:
        cfg: The config.

    Raises:
        DFERError: If a `type` in the config is in a module that was moved. The message names the
            new module.
    """
    for kind in _iterate_types(cfg):
        for name in _MODULE.findall(kind):
            if (line := _explain_module(name)) is not None:
                raise DFERError(f'{cfg.filename}: type={kind!r}: {line}')


def check_options(cfg: Config, options: Iterable[str]) -> None:
    """Check that the command line sets no option of EncodeOnceHook.

    Version 0.2 removed this hook.

    Args:
        cfg: The config before the options are applied.
        options: The dotted names of the options.

    Raises:
        DFERError: If an option is one of EncodeOnceHook. The message names the new options.
    """
    for key in options:
        match = _ENCODE_ONCE.fullmatch(key)
        if match and int(match[1]) >= len(cfg.get('custom_hooks') or ()):
            raise DFERError(
                f'{key}: EncodeOnceHook was removed in version 0.2. Set '
                f'train_dataloader.dataset.{match[2]} of EncodedClips instead, and do the same '
                'for val_dataloader and test_dataloader'
            )


def _explain_module(name: str) -> str | None:
    """Return the message for a module of version 0.1, or None for other modules."""
    for old, new in MODULES.items():
        if f'{name}.'.startswith(f'{old}.'):
            return f'mmdfer.{old} was renamed to mmdfer.{new} in version 0.2 (CHANGELOG.md)'
    return None


def _iterate_types(part: Any) -> Iterator[str]:
    """Yield each `type` in a config that is a string."""
    if isinstance(part, (Mapping, Config)):
        for key, value in part.items():
            if key == 'type' and isinstance(value, str):
                yield value
            yield from _iterate_types(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _iterate_types(value)

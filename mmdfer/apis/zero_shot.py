"""Test a checkpoint on another dataset than it was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from mmaction.registry import DATASETS

from mmdfer.datasets import DFERDataset
from mmdfer.datasets.base import check_roots, find_dataset_class, find_datasets
from mmdfer.datasets.class_names import match_classes
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.config import check_checkpoint
from mmdfer.engine.runner.other_dataset import find_clips, list_levels, take_clips
from mmdfer.engine.runner.resume_checkpoint import POINTER
from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.errors import DFERError
from mmdfer.evaluation import SharedClassesMetric
from mmdfer.evaluation.report import overlap_note, synthetic_note
from mmdfer.features import EncodedClips
from mmdfer.features.dataset_config import replace_clips, use_bank
from mmdfer.files import write_aside
from mmdfer.models.json_tensor import from_tensor

_RECALL = 'recall/'  # the prefix of DFERMetric's recall of each class


def run_zero_shot(
    cfg: Config,
    checkpoint: str | None,
    target: Config,
    levels: str | None = None,
    bank: str | bool | None = None,
) -> dict[str, Any]:
    """Test a checkpoint on another dataset, on the classes that the model and the dataset share.

    The views, which are the frames, their size and their normalisation, are those of the model's
    config. The clips and their labels are those of the other config's ``test_dataloader``. Clips of
    classes that the model does not have are left out, and counted. SharedClassesMetric says how
    WAR and UAR are computed.

    Args:
        cfg: The config with which the checkpoint was trained, with the work directory of the test.
            It is changed in place.
        checkpoint: Path or address of the checkpoint, or None for a model that needs no training,
            such as zero-shot CLIP.
        target: The config of the other dataset, as ``read_dataset_config`` returns it.
        levels: Folder of the levels of the other dataset (docs/levels.md), for models that read
            levels. If neither this argument nor ``target`` names it, the model is tested without
            levels. The levels of the synthetic benchmark are made. Captions of MAFW are only read
            if ``target`` loads them, because in the release neutral clips have none.
        bank: Argument ``bank`` of EncodedClips, or None for no feature bank.

    Returns:
        The content of ``report.json``: ``trained_on``, ``tested_on``, ``note`` (about synthetic
        data, or about clips that are in both datasets), ``checkpoint``, ``classes`` (the shared
        ones), ``left_out`` (the number of clips by class), ``unused_classes`` (of the model),
        ``clips``, ``other_classes`` (percentage of clips whose highest score had another class),
        ``levels`` (those that the test used, None if the model reads frames only),
        ``unused_levels`` (of the model), and ``dataset``, ``last`` and ``best`` as in the report
        of a training.

    Raises:
        DFERError: If a class of the model is unknown, if fewer than two classes are shared, or if a
            file or a setting does not fit, or if the work directory is that of a training.
    """
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    if Path(cfg.work_dir, POINTER).exists():
        raise DFERError(
            f'{cfg.work_dir}: this is the folder of a training, whose report.json would be '
            'replaced; give another folder with --work-dir'
        )
    loaded = _load(checkpoint)
    meta = loaded.get('meta') or {}
    clips, _ = take_clips(cfg, target, 'test_dataloader', levels)
    check_roots(clips)
    loaded_levels = list_levels(clips.get('pipeline', ()))
    _check_levels(cfg, loaded_levels)
    classes = _find_classes(cfg, loaded)
    _check_match(clips, classes)
    clips = dict(clips, model_classes=classes, test_mode=True)
    cfg.test_dataloader.dataset = replace_clips(cfg.test_dataloader.dataset, clips)
    cfg.test_evaluator = dict(type='SharedClassesMetric')
    cfg.load_from, cfg.resume = checkpoint, False
    use_bank(cfg, bank)
    runner = build_runner(cfg)
    named = unwrap(runner.model).named_parameters()
    if checkpoint is None and (trained := next((n for n, p in named if p.requires_grad), None)):
        raise DFERError(
            f'{cfg.filename}: the model has parameters to train, such as {trained}; give the '
            'checkpoint of a training'
        )
    metrics = runner.test()
    about = dict(
        trained_on=_find_training_set(cfg, meta) if checkpoint is not None else None,
        checkpoint=checkpoint,
        **_describe_levels(unwrap(runner.model), loaded_levels),
        unused_classes=[name for name in classes if name not in _metric(runner).shared],
    )
    report = _build_report(runner, metrics, about, int(meta.get('epoch') or 0))
    _save(runner, report)
    return report


def _load(checkpoint: str | None) -> dict[str, Any]:
    """Load a checkpoint on the CPU; without one, return an empty dict."""
    if checkpoint is None:
        return {}
    return CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')


def _find_classes(cfg: Config, loaded: Mapping[str, Any]) -> list[str]:
    """Return the class names of the model, in the order of its logits.

    They are those that the head or mmengine saved in the checkpoint, or else those of the config.

    Raises:
        DFERError: If no names are known.
    """
    state = loaded.get('state_dict', loaded)
    key = next((key for key in state if key.endswith('cls_head.classes')), None)
    saved = ((loaded.get('meta') or {}).get('dataset_meta') or {}).get('classes')
    given = from_tensor(state[key]) if key is not None else saved
    names = given or cfg.model.get('cls_head', {}).get('classes') or cfg.get('classes')
    if not names:
        raise DFERError(
            f'{cfg.filename}: neither the checkpoint nor the config names the classes of the '
            'model; add classes=[...] to the config, in the order of the logits'
        )
    return list(names)


def _check_match(clips: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Raise DFERError unless the classes match, before the model is built."""
    found = DATASETS.build(dict(clips, pipeline=[], lazy_init=True))
    match_classes(classes, found.metainfo['classes'])


def _check_levels(cfg: Config, loaded: Sequence[str]) -> None:
    """Raise DFERError if the model reads only levels that the pipeline does not load."""
    levels = cfg.model.get('levels')
    if levels and not set(levels) & set(loaded):
        raise DFERError(
            f'{cfg.filename}: the model reads only {" and ".join(levels)}, but a test on this '
            f'dataset loads only {" and ".join(loaded)}; give the folder of levels with --levels, '
            'or a config of the dataset that loads them (docs/levels.md)'
        )


def _describe_levels(model: nn.Module, loaded: Sequence[str]) -> dict[str, Any]:
    """Return the entries ``levels`` and ``unused_levels`` of the report."""
    levels: Sequence[str] = getattr(model, 'levels', ('frames',))
    used, unused = [[x for x in levels if (x in loaded) is there] for there in (True, False)]
    return dict(levels=None if tuple(levels) == ('frames',) else used, unused_levels=unused)


def _find_training_set(cfg: Config, meta: Mapping[str, Any]) -> str | None:
    """Return the name of the dataset on which a checkpoint was trained, if it is known."""
    known = (meta.get('dataset_meta') or {}).get('dataset')
    if known or cfg.get('train_dataloader') is None:
        return known
    kind = find_dataset_class(find_clips(cfg, 'train_dataloader', str(cfg.filename)))
    return None if kind is None else kind.METAINFO.get('dataset')


def _metric(runner: Runner) -> Any:
    """Return the metric of a test."""
    return next(m for m in runner.test_evaluator.metrics if isinstance(m, SharedClassesMetric))


def _build_report(
    runner: Runner, metrics: Mapping[str, float], about: dict[str, Any], epoch: int
) -> dict[str, Any]:
    """Return the content of ``report.json``."""
    served = runner.test_dataloader.dataset
    found = next(find_datasets(served, EncodedClips), None)
    clips = next(find_datasets(found.dataset if found else served, DFERDataset))
    name, trained, metric = clips.metainfo.get('dataset'), about['trained_on'], _metric(runner)
    recalls = {k.removeprefix(_RECALL): v for k, v in metrics.items() if k.startswith(_RECALL)}
    confusion = None if metric.confusion is None else metric.confusion.tolist()
    scores = dict(WAR=metrics['WAR'], UAR=metrics['UAR'])
    return dict(
        about,
        tested_on=name,
        note=synthetic_note(name) or synthetic_note(trained) or overlap_note(trained, name),
        left_out=clips.left_out,
        clips=len(clips),
        other_classes=metrics['other_classes'],
        dataset=name,
        classes=list(metric.shared),
        last=dict(epoch=epoch, **scores, recalls=recalls, confusion=confusion),
        best=None,
    )


def _save(runner: Runner, report: dict[str, Any]) -> None:
    """Write ``report.json`` to the work directory, and log what it says."""
    if not is_main_process():
        return
    path = Path(runner.work_dir, 'report.json')
    with write_aside(path) as aside:
        aside.write_text(json.dumps(report, indent=1), encoding='utf-8')
    runner.logger.info(f'{describe(report)}\nThe report is saved as {path}')


def describe(report: Mapping[str, Any]) -> str:
    """Describe the report of a zero-shot test in a few lines of text.

    Args:
        report: The report, as :func:`run_zero_shot` returns it.
    """
    trained = report['trained_on']
    origin = f'trained on {trained}' if trained else 'without training'
    last, classes = report['last'], report['classes']
    lines = [
        f'Zero-shot, {origin}, tested on {report["tested_on"]}: WAR {last["WAR"]:.2f}, '
        f'UAR {last["UAR"]:.2f} on {report["clips"]} clips of {len(classes)} classes '
        f'({", ".join(classes)})'
    ]
    if report['left_out']:
        counts = ', '.join(f'{name} ({count})' for name, count in report['left_out'].items())
        lines.append(f'Left out, because the model does not have their class: clips of {counts}')
    if report['unused_classes']:
        lines.append(
            f'Left out, because the dataset does not have them: the scores of '
            f'{", ".join(report["unused_classes"])}; {report["other_classes"]:.1f} % of the clips '
            'had their highest score there'
        )
    if report['unused_levels']:
        lines.append(
            f'Tested on {" and ".join(report["levels"])} only, because the test does not load '
            f'{" and ".join(report["unused_levels"])} of this dataset'
        )
    return '\n'.join([*lines, *filter(None, [report['note']])])

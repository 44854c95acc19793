"""Recognise the expressions of a face over time, in films of any kind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import load_checkpoint
from torch import nn

from mmaction.apis import init_recognizer

from mmdfer.engine.runner.config import check_checkpoint, read_config
from mmdfer.errors import DFERError
from mmdfer.faces import Box, FaceDetector, build_detector
from mmdfer.features.dataset_config import without_features
from mmdfer.files import hash_file
from mmdfer.inference import Film, Timeline, build_clip_model, open_film
from mmdfer.inference.analysis import Settings, analyse
from mmdfer.installed import PREFIX, find_installed_weights, list_installed_weights
from mmdfer.models import FineCLIPER
from mmdfer.models.heads.text_head import TextHead, check_class_count
from mmdfer.synthetic import DOMAINS, small_clip
from mmdfer.version import __version__

#: What every output says that a model trained on the synthetic benchmark has produced.
DRAWN_FACES = 'trained on drawn faces; not for people'
#: What every output says that a model of several levels has produced from a film.
FRAMES_ALONE = 'from the frames alone, because a film has no {}'

Source = str | os.PathLike | int | np.ndarray


class DFERInferencer:
    """Recognise expressions over time, with a recognizer and a face detector.

    The face is found and followed, cropped as in the training data, and a window of frames slides
    over the film. The conventions are those of MMAction2's inferencers.

    Example::

        inferencer = DFERInferencer('align_dfer_dfew', 'epoch_100.pth')
        (timeline,) = inferencer('film.mp4')['predictions']
        print(timeline)
        timeline.plot().savefig('timeline.png')

    Args:
        model: Config of the recognizer: a path, or the name of a config of the package.
        checkpoint: Checkpoint that was trained with this config. By default, the weights of the
            package that have the name of the config; only a recognizer without trained parameters,
            such as zero-shot CLIP, needs none.
        device: Device that the recognizer runs on. The default is a GPU if there is one.
        detector: Name of the face detector (see :func:`mmdfer.faces.build_detector`), or a
            detector. With ``'none'``, each whole frame is the face.
        face_model: Model file of the detector.
        classes: Names of the classes, for a checkpoint that has none.
        cfg_options: Settings that replace those of the config, by dotted name.

    Attributes:
        clip_model: The recognizer, which classifies windows of frames.
        settings: How films are sampled and cropped by default. The values are those of the data on
            which the checkpoint was trained, as far as it has them.
        note: What every output must say about the weights and the input, or an empty string.

    Raises:
        DFERError: If the config, the checkpoint or the detector cannot be loaded.
    """

    def __init__(
        self,
        model: str | Path | Config = 'align_dfer_synth',
        checkpoint: str | Path | None = None,
        device: str | None = None,
        detector: str | FaceDetector = 'centerface',
        face_model: str | Path | None = None,
        classes: Sequence[str] | None = None,
        cfg_options: dict[str, Any] | None = None,
    ) -> None:
        cfg = model if isinstance(model, Config) else read_config(model, cfg_options)
        name = Path(cfg.filename or 'config').stem
        if checkpoint is None and name in list_installed_weights():
            checkpoint = PREFIX + name
        if checkpoint is not None:
            check_checkpoint(str(checkpoint))
        if isinstance(detector, str):
            self.detector, detector_name = build_detector(detector, face_model), detector
        else:
            self.detector, detector_name = detector, type(detector).__name__
        cfg.load_from = None
        recognizer = init_recognizer(cfg, None, device or get_device())
        meta = _load_weights(recognizer, checkpoint, name)
        self.clip_model = build_clip_model(recognizer, _test_pipeline(cfg))
        self.clip_model.classes = _find_classes(recognizer, meta, cfg, classes)
        self.settings = _default_settings(meta, self.clip_model.window)
        drawn = DRAWN_FACES if _knows_drawn_faces_only(recognizer, meta) else ''
        missing = _find_missing_levels(recognizer, name)
        alone = FRAMES_ALONE.format(' and no '.join(missing)) if missing else ''
        self.note = '; '.join(filter(None, [drawn, alone]))
        self._about = dict(
            config=name,
            checkpoint=None if checkpoint is None else str(checkpoint),
            sha256=_digest(checkpoint),
            detector=detector_name,
            **(dict(without=missing) if missing else {}),
        )

    def __call__(
        self,
        inputs: Source | Sequence[Source],
        boxes: Sequence[tuple[float, Box]] | None = None,
        show_progress: bool = True,
        **settings: Any,
    ) -> dict[str, list[Timeline]]:
        """Recognise the expressions of films.

        Args:
            inputs: A film or a list of films. A film is a video file, a folder of frames, the index
                of a camera, or an array of RGB frames, uint8 (T, H, W, 3).
            boxes: The known boxes of the face with their times in seconds, in place of the
                detector.
            show_progress: Whether to show a progress bar for each film.
            settings: Values of :class:`mmdfer.inference.analysis.Settings` for this call: ``fps``,
                ``stride``, ``margin``, ``size``, ``all_faces``.

        Returns:
            A dict with the list ``predictions``: one timeline for each film.

        Raises:
            DFERError: If a film cannot be read.
        """
        films: Sequence[Any] = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        found = [self.analyse(film, boxes, show_progress, **settings) for film in films]
        return dict(predictions=found)

    def analyse(
        self,
        film: Source | Film,
        boxes: Sequence[tuple[float, Box]] | None = None,
        show_progress: bool = True,
        **settings: Any,
    ) -> Timeline:
        """Recognise the expressions of one film; the arguments are those of a call."""
        return analyse(
            film if isinstance(film, Film) else open_film(film),
            self.clip_model,
            boxes or self.detector,
            self.choose_settings(**settings),
            self.note,
            self.describe_settings(boxes, **settings),
            show_progress,
        )

    def choose_settings(self, **settings: Any) -> Settings:
        """Return the default settings with the given ones in their place."""
        return replace(self.settings, **settings)

    def describe_settings(
        self, boxes: Sequence[tuple[float, Box]] | None = None, **settings: Any
    ) -> dict[str, Any]:
        """Return all that a result depends on besides the film, as JSON values."""
        about = dict(self._about, window=self.clip_model.window, version=__version__)
        if boxes:
            about['detector'] = 'boxes'
            about['boxes'] = hashlib.sha256(repr(list(boxes)).encode()).hexdigest()[:8]
        return {**asdict(self.choose_settings(**settings)), **about}


def _load_weights(
    recognizer: nn.Module, checkpoint: str | Path | None, name: str
) -> dict[str, Any]:
    """Load a checkpoint, and return the meta data of its training set.

    Raises:
        DFERError: If there is no checkpoint, but the recognizer has parameters that are trained, or
            if the checkpoint belongs to another recognizer.
    """
    if checkpoint is None:
        if any(parameter.requires_grad for parameter in recognizer.parameters()):
            raise DFERError(f'{name}: the recognizer is not trained; give a checkpoint of it')
        return {}
    try:
        loaded = load_checkpoint(
            recognizer, str(checkpoint), map_location='cpu', strict=True, logger='silent'
        )
    except RuntimeError as error:
        keys = ' '.join(str(error).split('\n\n', 1)[-1].split())
        raise DFERError(
            f'{checkpoint}: does not fit the config {name} ({keys[:160]}...); give the config that '
            'it was trained with'
        ) from None
    return (loaded.get('meta') or {}).get('dataset_meta') or {}


def _knows_drawn_faces_only(recognizer: nn.Module, meta: dict[str, Any]) -> bool:
    """Return whether a recognizer was trained on synthetic clips, or its CLIP was."""
    arch = str(getattr(recognizer.backbone, 'arch', ''))
    drawn = {domain.dataset for domain in DOMAINS.values()}
    return meta.get('dataset') in drawn or arch.startswith(small_clip.ARCH)


def _find_missing_levels(recognizer: nn.Module, name: str) -> list[str]:
    """Return the levels that a recognizer reads and that a film does not have.

    Raises:
        DFERError: If the recognizer does not read frames.
    """
    if not isinstance(recognizer, FineCLIPER):
        return []
    if 'frames' not in recognizer.levels:
        raise DFERError(
            f'{name}: the recognizer reads {" and ".join(recognizer.levels)} only, but a film has '
            "frames only; give a config and a checkpoint with 'frames' in model.levels"
        )
    return [level for level in recognizer.levels if level != 'frames']


def _digest(checkpoint: str | Path | None) -> str | None:
    """Return the first eight hex digits of the SHA-256 of a checkpoint, or None for no file."""
    if checkpoint is None:
        return None
    name = str(checkpoint)
    path = find_installed_weights(name) if name.startswith(PREFIX) else Path(name)
    if not path.is_file():
        return None  # an address
    return hash_file(path)[:8]


def _test_pipeline(cfg: Config) -> list[dict]:
    """Return the pipeline that turns a clip into the recognizer's input."""
    return list(without_features(cfg.test_dataloader.dataset)['pipeline'])


def _find_classes(
    model: nn.Module, meta: dict[str, Any], cfg: Config, given: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of the classes: given ones, or those of the checkpoint or the config.

    Raises:
        DFERError: If no names are known, or if their number is not that of the recognizer.
    """
    head: Any = model.cls_head
    known = getattr(head, 'classes', None) or meta.get('classes')
    names = tuple(given or known or cfg.get('classes') or ())
    if not names:
        raise DFERError('the checkpoint names no classes; give them with --classes')
    check_class_count(names, head.num_classes)
    if isinstance(head, TextHead) and head.classes is None:
        head.set_classes(names)
    return names


def _default_settings(meta: dict[str, Any], window: int) -> Settings:
    """Return the settings that fit the clips on which a checkpoint was trained."""
    values: dict[str, Any] = dict(meta.get('face_crop') or {})
    if seconds := meta.get('clip_seconds'):
        values['fps'] = round(window / float(seconds), 2)
    return Settings(**values)

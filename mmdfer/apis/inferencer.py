"""Recognise the expressions of a face over time, in films of any kind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import load_checkpoint

from mmaction.apis import init_recognizer

from mmdfer.engine.runner.config import check_checkpoint, read_config
from mmdfer.errors import DFERError
from mmdfer.faces import Box, FaceDetector, build_detector
from mmdfer.features.dataset_config import without_features
from mmdfer.inference import Timeline, build_clip_model, open_film
from mmdfer.inference.analysis import Settings, analyse
from mmdfer.models.heads.text_head import TextHead, check_class_count

#: What every output says that a model trained on the synthetic benchmark has produced.
DRAWN_FACES = 'trained on drawn faces; not for people'

Source = str | os.PathLike | int | np.ndarray


class DFERInferencer:
    """Recognise expressions over time, with a recognizer and a face detector.

    The face is found and followed, cropped as in the training data, and a window of frames slides
    over the film. The conventions are those of MMAction2's inferencers.

    Example::

        inferencer = DFERInferencer('align_dfer_synth', 'epoch_41.pth')
        (timeline,) = inferencer('film.mp4')['predictions']
        print(timeline)
        timeline.plot().savefig('timeline.png')

    Args:
        model: Config of the recognizer: a path, or the name of a config of the package.
        checkpoint: Checkpoint that was trained with this config. None is for recognizers that need
            no training, such as zero-shot CLIP.
        device: Device that the recognizer runs on. The default is a GPU if there is one.
        detector: Name of the face detector (see :func:`mmdfer.faces.build_detector`), or a
            detector. With ``'none'``, each whole frame is the face.
        face_model: Model file of the detector.
        classes: Names of the classes, for a checkpoint that has none.
        cfg_options: Settings that replace those of the config, by dotted name.

    Attributes:
        settings: How films are sampled and cropped by default. The values are those of the data on
            which the checkpoint was trained, as far as it says them.

    Raises:
        DFERError: If the config, the checkpoint or the detector cannot be loaded.
    """

    def __init__(
        self,
        model: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        detector: str | FaceDetector = 'centerface',
        face_model: str | Path | None = None,
        classes: Sequence[str] | None = None,
        cfg_options: dict[str, Any] | None = None,
    ) -> None:
        named = isinstance(detector, str)
        self.detector = build_detector(detector, face_model) if named else detector
        self.detector_name = detector if named else type(detector).__name__
        cfg = model if isinstance(model, Config) else read_config(model, cfg_options)
        cfg.load_from = None
        if checkpoint is not None:
            check_checkpoint(str(checkpoint))
        recognizer = init_recognizer(cfg, None, device or get_device())
        meta: dict[str, Any] = {}
        if checkpoint is not None:
            loaded = load_checkpoint(recognizer, str(checkpoint), map_location='cpu')
            meta = (loaded.get('meta') or {}).get('dataset_meta') or {}
        self.clip_model = build_clip_model(recognizer, _test_pipeline(cfg))
        self.clip_model.classes = _find_classes(recognizer, meta, cfg, classes)
        self.settings = _default_settings(meta, self.clip_model.window)
        self.note = DRAWN_FACES if 'synth' in str(meta.get('dataset', '')) else ''
        self.checkpoint = None if checkpoint is None else str(checkpoint)

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
        listed = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return dict(
            predictions=[
                self.analyse(source, boxes, show_progress, **settings) for source in listed
            ]
        )

    def analyse(
        self,
        source: Source,
        boxes: Sequence[tuple[float, Box]] | None = None,
        show_progress: bool = True,
        **settings: Any,
    ) -> Timeline:
        """Recognise the expressions of one film; the arguments are those of a call."""
        chosen = replace(self.settings, **settings)
        about = dict(checkpoint=self.checkpoint, detector='boxes' if boxes else self.detector_name)
        return analyse(
            open_film(source),
            self.clip_model,
            boxes or self.detector,
            chosen,
            self.note,
            about,
            show_progress,
        )


def _test_pipeline(cfg: Config) -> list[dict]:
    """Return the pipeline that turns a clip into the recognizer's input."""
    return list(without_features(cfg.test_dataloader.dataset).pipeline)


def _find_classes(
    model: torch.nn.Module, meta: dict[str, Any], cfg: Config, given: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of the classes: given ones, or those of the checkpoint or the config.

    Raises:
        DFERError: If no names are known, or if their number is not that of the recognizer.
    """
    head = model.cls_head
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

"""Measure the rows of the table of tools/benchmark.py, with one function for each part of it."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor

from benchmarks import clips, naive, strong
from benchmarks.mmdfer_runs import (
    ROOT,
    MmdferStep,
    build_baseline,
    build_mmdfer,
    classify,
    clips_to_extract,
    copy_weights,
    extract_to_bank,
    fill_banks_with_zeros,
)
from benchmarks.model import FRAMES, STAGES, PlainAlignDFER
from benchmarks.settings import PRECISIONS, Settings
from benchmarks.table import Row, make_row, rates
from benchmarks.timing import Samples, interleave
from mmdfer.datasets import DFERDataset
from mmdfer.datasets.transforms.frame_reader import FolderReader
from mmdfer.datasets.transforms.video_reader import VideoReader
from mmdfer.errors import DFERError
from mmdfer.features import EncodedClips
from mmdfer.models import CLIPDataPreprocessor, CLIPRecognizer, FrameFeatures

Rows = list[Row]
Part = tuple[Rows, Samples]
VIEWS = 8  # of a training clip, in DFEW's config
LARGEST_ERROR = dict(fp32=1e-4, bf16=1e-2)  # of a loss, relative
IMAGE_PASS = (
    'The images of a naive step are linear in their number: the pass of one batch of images is '
    'timed and multiplied.'
)


# ---------------------------------------------------------------- training steps


def measure_steps(s: Settings) -> Part:
    """Measure an optimizer step of each stage."""
    model = build_mmdfer(s)
    baseline = build_baseline(model)
    vectors = torch.randn(s.batch, FRAMES, model.backbone.embed_dims, device=s.device)
    rows: Rows = []
    samples: Samples = {}
    for number, stage in enumerate(STAGES, 1):
        found = measure_stage(s, stage, model, baseline, vectors)
        samples |= {f'{stage} {name}': values for name, values in found.items()}
        for precision in PRECISIONS:
            values = found[f'mmdfer {precision}'], found[f'strong {precision}']
            against = found['naive'] if precision == 'fp32' else []
            note = IMAGE_PASS if against else ''
            name = f'step of stage {number} ({stage}), {precision}'
            rows.append(Row(name, 's', *values, against, note=note))
    features = FrameFeatures(vectors[:, None])
    predict = strong.Predictor(baseline)
    model.eval()
    runs = dict(mmdfer=lambda: classify(model, features), strong=lambda: predict(vectors))
    found = interleave(runs, s.repeats, s.device)
    samples |= {f'validation {name}': values for name, values in found.items()}
    title = 'validation, a batch of frame vectors, fp32'
    return [*rows, make_row(title, 'ms', _milliseconds(found))], samples


def measure_stage(
    s: Settings, stage: str, model: CLIPRecognizer, baseline: PlainAlignDFER, vectors: Tensor
) -> Samples:
    """Measure the steps of one stage, after a check that the losses of the first step agree."""
    labels = torch.arange(s.batch, device=s.device) % s.classes
    trainer = naive.Trainer(baseline, stage, s.image_batch)
    runs: dict[str, Callable[[], Any]] = {}
    for precision, bf16 in PRECISIONS.items():
        runs[f'mmdfer {precision}'] = MmdferStep(model, stage, vectors, bf16)
        step = strong.Trainer(baseline, stage, bf16).step
        runs[f'strong {precision}'] = partial(step, vectors, labels)
    runs['naive'] = partial(trainer.step_after_images, vectors, labels)
    check_losses(stage, runs, model, baseline)
    for name in runs if stage == 'video' else ():  # in this stage a first step caches class vectors
        runs[name]()
    images = torch.randn(s.images, 1, 3, 224, 224, device=s.device)
    runs['image pass'] = partial(trainer.encode_frames, images)
    samples = interleave(runs, s.repeats, s.device, warm_up=False)
    factor = s.batch * FRAMES / len(images)
    samples['image pass'] = [factor * seconds for seconds in samples['image pass']]
    samples['naive'] = [sum(pair) for pair in zip(samples['naive'], samples['image pass'])]
    return samples


def check_losses(
    stage: str,
    runs: dict[str, Callable[[], Tensor]],
    model: CLIPRecognizer,
    baseline: PlainAlignDFER,
) -> None:
    """Take the first step of each implementation from the same weights, and compare the losses.

    Raises:
        DFERError: If the losses differ.
    """
    start, losses = copy.deepcopy(model.state_dict()), {}
    for name, run in runs.items():
        copy_weights(model, baseline)
        losses[name] = run().item()
        model.load_state_dict(start)
        model.neck.set_stage(stage)
    for name, loss in losses.items():
        error = abs(loss / losses['naive'] - 1)
        if error > LARGEST_ERROR['bf16' if name.endswith('bf16') else 'fp32']:
            raise DFERError(
                f'stage {stage}: the loss of {name} is {loss:.6f}, the naive baseline has '
                f'{losses["naive"]:.6f}'
            )


def measure_compiled(s: Settings) -> Part:
    """Measure a step of stage 1 with torch.compile in the strong baseline."""
    model = build_mmdfer(s)
    baseline = build_baseline(model)
    vectors = torch.randn(s.batch, FRAMES, model.backbone.embed_dims, device=s.device)
    labels = torch.arange(s.batch, device=s.device) % s.classes
    note = 'torch.compile takes about a minute before the first step, which is not counted.'
    rows: Rows = []
    for precision, bf16 in PRECISIONS.items():
        step = strong.Trainer(baseline, 'text', bf16, compiled=True).step
        runs: dict[str, Callable[[], Any]] = dict(
            mmdfer=MmdferStep(model, 'text', vectors, bf16), strong=partial(step, vectors, labels)
        )
        found = interleave(runs, s.repeats, s.device)
        title = f'step of stage 1 (text), {precision}, strong baseline with torch.compile'
        rows.append(make_row(title, 's', found, note=note))
    return rows, {}


def _milliseconds(samples: Samples, count: int = 1) -> Samples:
    """Convert the seconds of ``count`` runs to milliseconds of one run."""
    return {name: [1000 * value / count for value in values] for name, values in samples.items()}


# ---------------------------------------------------------------- inference


def measure_inference(s: Settings) -> Part:
    """Measure the clips per second of trained models, and of open_clip's encode_image alone."""
    model = build_mmdfer(s).eval()
    baseline = build_baseline(model)
    count = max(1, s.images // FRAMES)
    frames = torch.randn(count, FRAMES, 3, 224, 224, device=s.device)
    inputs = frames.transpose(1, 2)[:, None]  # (B, 1, 3, T, H, W)
    runs: dict[str, Callable[[], Any]] = {}
    for precision, bf16 in PRECISIONS.items():
        runs[f'mmdfer {precision}'] = partial(_infer, model, inputs, bf16)
        mode = s.low_precision if bf16 else 'fp32'
        encode = strong.ImageEncoder(baseline.clip, s.image_batch, mode)
        predict = strong.Predictor(baseline, bf16)
        runs[f'strong {precision}'] = partial(_infer_strong, encode, predict, frames)
        runs[f'encode_image {precision}'] = partial(encode, frames)
    samples = interleave(runs, s.repeats, s.device)
    rows = []
    for precision in PRECISIONS:
        per_second = {
            name: rates(count, samples[f'{name} {precision}'])
            for name in ('mmdfer', 'strong', 'encode_image')
        }
        for other, title in (
            ('strong', f'inference from decoded frames, {precision}'),
            ('encode_image', f'the same, with encode_image alone as the baseline, {precision}'),
        ):
            pair = per_second['mmdfer'], per_second[other]
            rows.append(Row(title, 'clips/s', *pair, higher_is_better=True))
    return rows, samples


def _infer_strong(encode: strong.ImageEncoder, predict: strong.Predictor, frames: Tensor) -> Tensor:
    return predict(encode(frames))


def _infer(model: CLIPRecognizer, inputs: Tensor, bf16: bool) -> Tensor:
    with strong.autocast(inputs.device, bf16):
        return classify(model, inputs)


# ---------------------------------------------------------------- extraction and decoding


def measure_extraction(s: Settings) -> Part:
    """Measure how many views per second are read, encoded and written to disk."""
    model = build_mmdfer(s).eval()
    baseline = build_baseline(model)
    rows: Rows = []
    samples: Samples = {}
    note = 'Two workers; 8 views in fp32 and 16 in bf16, read from frames in batches of two.'
    for precision, bf16 in PRECISIONS.items():
        count = 2 if s.small else 16 if bf16 else 8
        mode = s.low_precision if bf16 else 'fp32'
        encode = strong.ImageEncoder(baseline.clip, s.image_batch, mode)
        found = extract_in_turn(s, count, bf16, model, encode)
        values = {name: rates(count, seconds) for name, seconds in found.items()}
        samples |= {f'{precision} {name}': v for name, v in values.items()}
        pair = values['mmdfer'], values['strong']
        title = f'extraction, {precision}'
        rows.append(Row(title, 'views/s', *pair, higher_is_better=True, note=note))
    return rows, samples


def extract_in_turn(
    s: Settings, count: int, bf16: bool, model: CLIPRecognizer, encode: strong.ImageEncoder
) -> Samples:
    """Measure the seconds in which views are extracted by mmdfer and by the strong baseline."""
    ours = clips_to_extract(s, count)
    theirs = clips.ClipViews(clips.list_clips(Path(s.data))[:count], training=True)
    with tempfile.TemporaryDirectory() as folder:
        names = (str(number) for number in range(2 * s.repeats + 2))

        def run_mmdfer() -> None:
            with strong.autocast(torch.device(s.device), bf16):
                extract_to_bank(model, ours, f'{folder}/{next(names)}')

        def run_strong() -> None:
            strong.extract(encode, theirs, Path(folder, next(names)))

        return interleave(dict(mmdfer=run_mmdfer, strong=run_strong), s.repeats, s.device)


def measure_decoding(s: Settings) -> Part:
    """Measure the reading of 16 frames of a clip by one thread, without resizing."""
    cv2.setNumThreads(0)
    count = 1 if s.small else 6
    rows: Rows = []
    readers: dict[str, dict[str, Callable[[Path], Any]]] = dict(
        frames={'OpenCV': _read_by_opencv, 'Pillow': _read_by_pillow},
        videos={'decord': _read_by_decord, "OpenCV's VideoCapture": _read_by_capture},
    )
    for media, others in readers.items():
        paths = [path for path, _ in clips.list_clips(Path(s.data), media)[:count]]
        runs = {
            name: partial(_read_all, read, paths)
            for name, read in (('mmdfer', _read_by_mmdfer), *others.items())
        }
        found = {n: rates(count, v) for n, v in interleave(runs, s.repeats, 'cpu').items()}
        for name in others:
            title = f'decoding {media}, with {name} as the baseline'
            pair = found['mmdfer'], found[name]
            rows.append(Row(title, 'views/s', *pair, higher_is_better=True))
    return rows, {}


def _read_all(read: Callable[[Path], Any], paths: list[Path]) -> None:
    for path in paths:
        read(path)


def _read_by_mmdfer(path: Path) -> list[np.ndarray]:
    reader = FolderReader(path) if path.is_dir() else VideoReader(path)
    return reader.read(clips.choose_central(len(reader)).tolist())


def _read_by_opencv(path: Path) -> list[np.ndarray]:
    return clips.read_pictures(path, clips.choose_central)


def _read_by_decord(path: Path) -> list[np.ndarray]:
    return clips.read_video(path, clips.choose_central)


def _read_by_pillow(path: Path) -> list[np.ndarray]:
    paths = clips.list_pictures(path)
    return [np.array(Image.open(paths[i]).convert('RGB')) for i in clips.choose_central(len(paths))]


def _read_by_capture(path: Path) -> list[np.ndarray]:
    """Decode a video from its beginning, and convert the chosen frames."""
    capture = cv2.VideoCapture(str(path))
    wanted = set(clips.choose_central(int(capture.get(cv2.CAP_PROP_FRAME_COUNT))).tolist())
    frames = []
    for number in range(max(wanted) + 1):
        capture.grab()
        if number in wanted:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


# ---------------------------------------------------------------- batches of frame vectors


class NamedClips(DFERDataset):
    """List clips that have only a name and a label; ``ann_file`` is their number."""

    METAINFO = dict(classes=tuple('abcdefg'))

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return the annotation of each clip."""
        return [dict(filename=f'{i}', clip=f'{i}', label=i % 7) for i in range(int(self.ann_file))]


def measure_loading(s: Settings) -> Part:
    """Measure how long a batch of 64 takes from the feature bank and from the baseline's file."""
    count = 64 if s.small else 2048
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'vectors')
        vectors = np.memmap(path, np.float16, 'w+', shape=(count, VIEWS, 1, FRAMES, 512))
        for row in vectors:
            row[:] = np.random.default_rng(0).standard_normal(row.shape, np.float32)
        batches = dict(mmdfer=_mmdfer_batches(vectors), strong=_strong_batches(vectors[:, :, 0]))
        # A round takes 64 batches: a single one lasts less than a millisecond.
        runs = {name: partial(_take, batch, 64) for name, batch in batches.items()}
        found = interleave(runs, s.repeats, 'cpu')
    title = 'a batch of 64 clips from the feature bank'
    return [make_row(title, 'ms', _milliseconds(found, 64))], {}


def _take(batches: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(batches)


def _mmdfer_batches(vectors: np.ndarray) -> Iterator[Any]:
    pipeline = [dict(type='PackActionInputs')]
    named = NamedClips(str(len(vectors)), pipeline=pipeline, num_views=VIEWS, test_mode=False)
    dataset = EncodedClips(named)
    dataset.features = torch.from_numpy(vectors)
    sampler = dict(type='DefaultSampler', shuffle=True)
    config = dict(batch_size=64, num_workers=0, dataset=dataset, sampler=sampler)
    loader, stack = Runner.build_dataloader(config, seed=0), CLIPDataPreprocessor()
    return map(stack, clips.repeat_epochs(lambda: loader))


def _strong_batches(vectors: np.ndarray) -> Iterator[Any]:
    labels = np.arange(len(vectors)) % 7
    return clips.repeat_epochs(lambda: strong.draw_batches(vectors, labels, 64))


# ---------------------------------------------------------------- memory, disk, start


def measure_memory(s: Settings) -> Part:
    """Measure the peak memory of processes that take steps of stage 1."""
    rows = []
    note = 'One process for each implementation: the peak does not depend on the load.'
    for precision in PRECISIONS:
        peaks = {name: [_peak_of(s, name, precision)] for name in ('mmdfer', 'strong')}
        against = [_peak_of(s, 'naive', precision)] if precision == 'fp32' else []
        title = f'peak memory of stage 1, {precision}'
        rows.append(Row(title, 'GB', peaks['mmdfer'], peaks['strong'], against, note=note))
    return rows, {}


def _peak_of(s: Settings, name: str, precision: str) -> float:
    command = ['-m', 'benchmarks.memory', name, precision, '--device', s.device]
    printed = _run_python([*command, *['--small'] * s.small])
    return float(printed.rpartition('peak memory: ')[2].split()[0])


def _run_python(arguments: list[str]) -> str:
    """Run Python in the root of the repository, and return what it prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=_environment(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _environment() -> dict[str, str]:
    """Return the environment, in which Python finds the repository's modules."""
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}


def measure_checkpoint(s: Settings) -> Part:
    """Measure the size of a checkpoint of stage 3, with the state of the optimizer."""
    model = build_mmdfer(s)
    baseline = build_baseline(model)
    vectors = torch.randn(2, FRAMES, model.backbone.embed_dims, device=s.device)
    labels = torch.zeros(2, dtype=torch.long, device=s.device)
    step, trainer = MmdferStep(model, 'joint', vectors, False), strong.Trainer(baseline, 'joint')
    step(), trainer.step(vectors, labels)
    states = dict(
        mmdfer=[model.state_dict(), step.wrapper.state_dict()],
        strong=strong.checkpoint(trainer),
        naive=[baseline.state_dict(), trainer.optimizer.sgd.state_dict()],
    )
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, state in states.items():
            torch.save(state, path := Path(folder, name))
            sizes[name] = [path.stat().st_size / 1e6]
    return [make_row('checkpoint of stage 3 with the optimizer', 'MB', sizes)], {}


def measure_start(s: Settings) -> Part:
    """Measure the time from the command to the end of the first training step, without extraction.

    The steps are made small, so that they take no time: two clips, one sentence of four tokens.
    """
    sizes = ['--batch', '2', '--sentences', '1', '--tokens', '4']
    with tempfile.TemporaryDirectory() as folder:
        options = _mmdfer_options(s)
        _prepare_start(s, folder, options)
        train = [str(ROOT / 'tools' / 'train.py'), str(ROOT / 'configs' / 'align_dfer_dfew.py')]
        train += ['--work-dir', f'{folder}/run', '--bank', f'{folder}/bank', '--cfg-options']
        train += [f'{key}={value}' for key, value in options.items()]
        vectors = f'{folder}/vectors.npy'
        commands = dict(
            mmdfer=(train, 'Epoch(train)'),
            strong=(['-m', 'benchmarks.strong', s.data, vectors, *sizes], 'step 1'),
        )
        runs = {name: partial(_run_until, *command) for name, command in commands.items()}
        found = interleave(runs, s.repeats, 'cpu')
    note = 'A small step of two clips; the training set has 53 clips, which are encoded beforehand.'
    return [make_row('command to first step', 's', found, note=note)], {}


def _mmdfer_options(s: Settings) -> dict[str, Any]:
    """Return the options of a config for a small step on the rendered clips."""
    options: dict[str, Any] = {
        f'{name}_dataloader.dataset.dataset.data_root': s.data for name in ('train', 'val', 'test')
    }
    options |= {
        f'model.cls_head.{key}': n for key, n in dict(num_sentences=1, num_tokens=4).items()
    }
    options |= {'model.neck.num_sentences': 1, 'model.backbone.weights': 'random'}
    return options | {'train_dataloader.batch_size': 2, 'default_hooks.logger.interval': 1}


def _prepare_start(s: Settings, folder: str, options: dict[str, Any]) -> None:
    """Fill the feature bank and the baseline's file with zeros."""
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_dfew.py')
    config.merge_from_dict(options)
    fill_banks_with_zeros(config, build_mmdfer(s), f'{folder}/bank')
    views = VIEWS * len(clips.list_clips(Path(s.data)))
    np.save(f'{folder}/vectors.npy', np.zeros((views, FRAMES, 512), np.float16))


def _run_until(arguments: list[str], mark: str) -> None:
    """Run Python until it prints a line that contains a mark.

    Raises:
        RuntimeError: If the command ends before.
    """
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    command = [sys.executable, *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=_environment(), text=True, errors='replace', **pipes
    ) as run:
        lines = []
        for line in run.stdout or ():
            lines.append(line)
            if mark in line:
                run.kill()
                return
    raise RuntimeError('the command ended before its first step:\n' + ''.join(lines[-20:]))


PARTS: dict[str, Callable[[Settings], Part]] = dict(
    steps=measure_steps,
    compiled=measure_compiled,
    inference=measure_inference,
    extraction=measure_extraction,
    decoding=measure_decoding,
    loading=measure_loading,
    memory=measure_memory,
    checkpoint=measure_checkpoint,
    start=measure_start,
)

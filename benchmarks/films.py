"""Compare the speed of `mmdfer predict` with plain loops, and measure its memory.

    python -m benchmarks.films speed
    python -m benchmarks.films memory

The film is a drawn scene of 640 x 480 pixels. With ViT-B/32 and random weights, the box of the face
is given, as in a comparison with the image tower alone. The loop that a competent user writes first
decodes, detects and encodes each window on its own. Runs take turns, and medians are printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
import torch
from mmengine.config import Config

from benchmarks.mmdfer_runs import ROOT
from benchmarks.timing import interleave, peak_memory
from mmdfer.apis import DFERInferencer
from mmdfer.engine.runner.config import read_config
from mmdfer.faces import crop_face
from mmdfer.inference import open_film
from mmdfer.inference.drawing import write_annotated_film
from mmdfer.inference.results import ResultFolder
from mmdfer.synthetic.scene import draw_scene, write_scene

REPEATS = 7
Boxes = Sequence[tuple[float, tuple[float, float, float, float]]]


def build_large() -> DFERInferencer:
    """Build the inferencer of Align-DFER over ViT-B/32 with random weights."""
    config = read_config(ROOT / 'configs' / 'align_dfer_dfew.py')
    config.merge_from_dict({'model.backbone.weights': 'random'})
    return _build_untrained(config)


def _build_untrained(config: Config) -> DFERInferencer:
    """Build an inferencer of a config with the weights that training begins with."""
    from mmengine.runner import save_checkpoint

    from mmaction.apis import init_recognizer

    model = init_recognizer(config, None, 'cpu')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'random.pth')
        save_checkpoint(dict(state_dict=model.state_dict(), meta={}), str(path))
        names = tuple('abcdefg')
        return DFERInferencer(config, path, 'cpu', classes=names)


# ---------------------------------------------------------------- speed


def measure_speed() -> None:
    """Print the times of ViT-B/32 and of the small CLIP on a drawn scene."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'scene.mp4')
        scene = draw_scene(seconds=1.5)
        write_scene(path, scene)
        _measure_large(path, scene.boxes)
        _measure_small(path, scene.boxes, Path(folder))


def _measure_large(path: Path, boxes: Boxes) -> None:
    """Compare ViT-B/32 with the image tower alone and with a loop over windows."""
    inferencer = build_large()
    options: dict[str, Any] = dict(show_progress=False, fps=25.0, margin=0.0, size=224)

    def predict(stride: int) -> Callable[[], Any]:
        return lambda: inferencer.analyse(str(path), boxes, stride=stride, **options)

    crops = [
        crop_face(image, box, 0.0, 224)
        for (_, image), (_, box) in zip(open_film(path).sample(25.0), boxes)
    ]
    runs = {
        'predict, stride 16': predict(16),
        'predict, stride 4': predict(4),
        'predict, stride 1': predict(1),
        'image tower alone': lambda: encode_all(inferencer, crops),
    }
    times = interleave(runs, REPEATS, 'cpu')
    count = len(crops)
    print(f'ViT-B/32, {count} frames of 224 pixels in float32, faces given, no annotated film')
    for name, seconds in times.items():
        print(f'  {name}: {count / median(seconds):.1f} frames/s')
    share = [a / b for a, b in zip(times['image tower alone'], times['predict, stride 4'])]
    print(f'  speed of predict, stride 4 / image tower alone: {median(share):.2f}')
    ratios = [a / b for a, b in zip(times['predict, stride 1'], times['predict, stride 16'])]
    print(f'  time of stride 1 / stride 16: {median(ratios):.2f}')
    few = {
        'predict': lambda: inferencer.analyse(str(path), None, stride=4, **options),
        'loop': lambda: predict_each_window(inferencer, path, 4),
    }
    found = interleave(few, 3, 'cpu', warm_up=False)
    ratio = median(b / a for a, b in zip(found['predict'], found['loop']))
    print(f'  with the detector, stride 4: {median(found["predict"]):.1f} s')
    print(
        f'  loop over windows, stride 4: {median(found["loop"]):.1f} s, {ratio:.1f} times as long'
    )


def encode_all(inferencer: DFERInferencer, crops: Sequence[np.ndarray], batch: int = 16) -> None:
    """Encode crops with the image tower in batches, from normalised frames on."""
    backbone = inferencer.clip_model.model.backbone
    stacked = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255 - 0.5
    with torch.inference_mode():
        for start in range(0, len(stacked), batch):
            backbone(stacked[None, start : start + batch].transpose(1, 2))


def predict_each_window(inferencer: DFERInferencer, path: Path, stride: int) -> None:
    """Decode, detect and encode each window of 16 frames on its own."""
    model, window = inferencer.clip_model, inferencer.clip_model.window
    with av.open(str(path)) as container:
        total = container.streams.video[0].frames
    for start in range(0, total - window + 1, stride):
        with av.open(str(path)) as container:
            frames = [
                frame.to_ndarray(format='rgb24')
                for number, frame in enumerate(container.decode(video=0))
                if start <= number < start + window
            ]
        crops = []
        for image in frames:
            faces = inferencer.detector.detect(image)
            box = faces[0].box if faces else (0.0, 0.0, *map(float, image.shape[1::-1]))
            crops.append(crop_face(image, box, 0.12, 224))
        model.classify([model.encode(crops)])


def _measure_small(path: Path, boxes: Boxes, folder: Path) -> None:
    """Measure the small CLIP with and without the annotated film."""
    inferencer = DFERInferencer('align_dfer_synth', device='cpu')
    options: dict[str, Any] = dict(show_progress=False, fps=25.0)

    def with_film() -> None:
        timeline = inferencer.analyse(str(path), boxes, stride=4, **options)
        write_annotated_film(open_film(path), timeline, folder / 'out.mp4', show_progress=False)

    runs: dict[str, Callable[[], Any]] = {
        'faces given, stride 16': lambda: inferencer.analyse(
            str(path), boxes, stride=16, **options
        ),
        'faces given, stride 4': lambda: inferencer.analyse(str(path), boxes, stride=4, **options),
        'faces given, stride 1': lambda: inferencer.analyse(str(path), boxes, stride=1, **options),
        'faces given, stride 4, with the annotated film': with_film,
        'with the detector, stride 4': lambda: inferencer.analyse(str(path), stride=4, **options),
    }
    times = interleave(runs, REPEATS, 'cpu')
    print(f'small CLIP, {len(boxes)} frames')
    for name, seconds in times.items():
        print(f'  {name}: {len(boxes) / median(seconds):.0f} frames/s')
    long, short = times['faces given, stride 1'], times['faces given, stride 16']
    print(f'  time of stride 1 / stride 16: {median(a / b for a, b in zip(long, short)):.2f}')


# ---------------------------------------------------------------- memory


def measure_memory() -> None:
    """Print the peak memory of films of 1 and 60 minutes, in a process of their own each."""
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for minutes in (1, 60):
            path = Path(folder, f'{minutes}.mp4')
            write_long_film(path, minutes)
            command = [sys.executable, '-m', 'benchmarks.films', 'peak', str(path)]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            peaks[minutes] = float(done.stdout.split('peak memory: ')[1].split()[0])
            print(f'{minutes} minutes: {peaks[minutes]:.3f} GB', flush=True)
        print(f'difference: {1000 * (peaks[60] - peaks[1]):.0f} MB')


def write_long_film(path: Path, minutes: int) -> None:
    """Write a film of 320 x 240 pixels with 25 frames per second, which repeats a drawn scene."""
    scene = draw_scene(seconds=1.0).frames[:, ::2, ::2]
    write_film(path, islice(cycle(scene), minutes * 60 * 25), (320, 240), crf=35)


def write_film(
    path: Path, frames: Iterable[np.ndarray], size: tuple[int, int], crf: int = 23
) -> None:
    """Write frames as an H.264 film with 25 frames per second.

    Args:
        path: The file to write.
        frames: The frames, RGB uint8 (H, W, 3).
        size: Width and height of the film in pixels, even numbers. Frames are cut to it.
        crf: Quality; a larger number makes a smaller file.
    """
    width, height = size
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        stream.options = dict(preset='ultrafast', crf=str(crf))
        for frame in frames:
            cut = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format='rgb24')))
        container.mux(stream.encode())


def print_peak(path: Path) -> None:
    """Analyse a film with the small CLIP, write its results, and print the peak memory."""
    inferencer = DFERInferencer('align_dfer_synth', device='cpu')
    boxes = [(0.0, (160.0, 80.0, 260.0, 180.0))]
    film = open_film(path)
    timeline = inferencer.analyse(film, boxes, fps=5.0)
    with tempfile.TemporaryDirectory() as folder:
        results = ResultFolder(Path(folder), video=False)
        results.write('film', str(path), film, timeline)
        results.finish()
    print(f'peak memory: {peak_memory("cpu"):.3f} GB')


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=('speed', 'memory', 'peak'))
    parser.add_argument('film', nargs='?', type=Path, help='the film, for peak')
    args = parser.parse_args()
    if args.what == 'peak':
        print_peak(args.film)
    else:
        measure_speed() if args.what == 'speed' else measure_memory()


if __name__ == '__main__':
    main()

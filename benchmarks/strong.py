"""Train Align-DFER as a competent user of torch and open_clip would: the strong baseline.

    python -m benchmarks.strong DATA VECTORS.npy     # DATA is the folder of DFEW

What it saves compared with ``naive.py``:

- Every view of every clip is encoded once, by a DataLoader with workers and ``encode_image`` in
  inference mode. The frame vectors are kept in a memory-mapped file in half precision.
- Class vectors are computed once where the text side is frozen: in stage 2, in validation and in
  inference.
- The text tower computes the positions of the prompt only, which the causal mask makes exact.
- Images are encoded in batches of the best size, and in bfloat16 in the faster of two ways.

Attention is torch's scaled dot product attention, as in open_clip. Nothing of mmdfer is imported.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip import CLIP
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.clips import ClipViews, list_clips, normalise, repeat_epochs
from benchmarks.model import FRAMES, Optimizer, PlainAlignDFER, build_model, encode_images

PRECISIONS = ('fp32', 'autocast', 'bf16')


class ImageEncoder:
    """Encode normalised frames with open_clip's encode_image.

    Args:
        clip: The CLIP model of open_clip.
        batch: How many images are encoded at a time.
        precision: ``'fp32'``; ``'autocast'`` for autocast to bfloat16; or ``'bf16'`` for a copy of
            the model whose weights are bfloat16.
    """

    def __init__(self, clip: CLIP, batch: int, precision: str = 'fp32') -> None:
        self.clip = copy.deepcopy(clip).bfloat16() if precision == 'bf16' else clip
        self.batch, self.precision = batch, precision

    def __call__(self, frames: Tensor) -> Tensor:
        """Encode frames (B, T, 3, H, W) to frame vectors (B, T, D) in float32."""
        images = frames.flatten(0, 1)
        if self.precision == 'bf16':
            images = images.bfloat16()
        with autocast(frames.device, self.precision == 'autocast'):
            vectors = encode_images(self.clip, images, self.batch)
        return vectors.float().unflatten(0, frames.shape[:2])


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """Return the context of autocast to bfloat16, or one that changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def extract(
    encode: ImageEncoder, views: ClipViews, path: Path, batch: int = 2, workers: int = 2
) -> None:
    """Encode views once and write their frame vectors, float16 (views, T, D), to a .npy file.

    Args:
        encode: Encodes the frames.
        views: The views.
        path: The file to write.
        batch: How many views are read and encoded at a time.
        workers: The number of processes that read views.
    """
    projection = encode.clip.text_projection  # (W, D)
    device = projection.device
    loader = DataLoader(
        views, batch_size=batch, num_workers=workers, pin_memory=device.type == 'cuda'
    )
    shape = len(views), FRAMES, projection.shape[1]
    vectors = np.lib.format.open_memmap(path, 'w+', np.float16, shape)
    for frames, numbers in loader:
        frames = normalise(frames.to(device, non_blocking=True))
        vectors[numbers.numpy()] = encode(frames).half().cpu().numpy()
    vectors.flush()


def draw_batches(
    vectors: np.ndarray, labels: np.ndarray, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch in random order: a random view of each clip.

    Args:
        vectors: Frame vectors (clips, V, T, D).
        labels: The labels (clips,).
        batch: The batch size. An incomplete last batch is left out.

    Yields:
        Frame vectors (B, T, D) in float32, and labels (B,).
    """
    order = np.random.permutation(len(vectors))
    for start in range(0, len(order) - batch + 1, batch):
        clips = order[start : start + batch]
        views = np.random.randint(vectors.shape[1], size=batch)
        yield torch.from_numpy(vectors[clips, views]).float(), torch.from_numpy(labels[clips])


class Trainer:
    """Take the steps of one stage on frame vectors.

    Args:
        model: The model.
        stage: The stage: text, video or joint.
        bf16: Whether to compute under autocast to bfloat16.
        compiled: Whether to compile the text side with torch.compile, which needs a C++ compiler on
            the CPU.
    """

    def __init__(
        self, model: PlainAlignDFER, stage: str, bf16: bool = False, compiled: bool = False
    ) -> None:
        self.model, self.stage, self.bf16 = model, stage, bf16
        self.optimizer = Optimizer(model, stage)
        encode = model.encode_classes
        self._encode_classes = torch.compile(encode) if compiled else encode
        self._classes: Tensor | None = None

    def step(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Take one optimizer step on frame vectors (B, T, D), and return the loss."""
        with autocast(vectors.device, self.bf16):
            logits = self.model(vectors, self.class_vectors(), self.stage)
            loss = F.cross_entropy(logits, labels)
        return self.optimizer.update(loss)

    def class_vectors(self) -> Tensor:
        """Return the class vectors (C, D), which stage 2 computes only once."""
        if self.stage != 'video':
            return self._encode_classes(self.stage, self.model.prompt_length)
        if self._classes is None:
            with torch.no_grad():
                self._classes = self._encode_classes(self.stage, self.model.prompt_length)
        return self._classes


class Predictor:
    """Classify clips after training, with class vectors that are computed once.

    Args:
        model: The trained model.
        bf16: Whether to compute under autocast to bfloat16.
    """

    def __init__(self, model: PlainAlignDFER, bf16: bool = False) -> None:
        self.model, self.bf16 = model, bf16
        with torch.inference_mode(), autocast(model.tokens.device, bf16):
            self.classes = model.encode_classes('joint', model.prompt_length)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the logits (B, C) of frame vectors (B, T, D)."""
        with torch.inference_mode(), autocast(vectors.device, self.bf16):
            return self.model(vectors, self.classes, 'joint')


def checkpoint(trainer: Trainer) -> list[dict]:
    """Return what a checkpoint needs: everything except the frozen CLIP."""
    state = trainer.model.state_dict()
    kept = {key: value for key, value in state.items() if not key.startswith('clip.')}
    return [kept, trainer.optimizer.sgd.state_dict()]


def main() -> None:
    """Encode the clips if the file of frame vectors is missing, and train stage 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data', type=Path, help='the folder of DFEW')
    parser.add_argument('vectors', type=Path, help='the .npy file of frame vectors')
    parser.add_argument('--batch', type=int, default=64, help='clips in a batch')
    parser.add_argument('--sentences', type=int, default=16, help='sentences of each class')
    parser.add_argument('--tokens', type=int, default=64, help='learned tokens of each sentence')
    parser.add_argument('--views', type=int, default=8, help='views of each clip')
    parser.add_argument('--steps', type=int, default=1, help='optimizer steps to take')
    args = parser.parse_args()
    clips = list_clips(args.data)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model = build_model(7, args.sentences, args.tokens).to(device)
    if not args.vectors.exists():
        views = ClipViews(clips, training=True, num_views=args.views)
        extract(ImageEncoder(model.clip, 32), views, args.vectors)
    vectors = np.load(args.vectors, mmap_mode='r').reshape(len(clips), args.views, FRAMES, -1)
    labels = np.array([label for _, label in clips])
    trainer = Trainer(model, 'text')
    steps = range(1, args.steps + 1)
    batches = repeat_epochs(lambda: draw_batches(vectors, labels, args.batch))
    for step, (batch, targets) in zip(steps, batches):
        loss = trainer.step(batch.to(device), targets.to(device))
        print(f'step {step}: loss {loss:.4f}', flush=True)


if __name__ == '__main__':
    main()

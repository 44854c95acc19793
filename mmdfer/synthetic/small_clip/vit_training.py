"""Train the image tower of the small ViT CLIP on rendered faces and the vectors of the ResNet.

The vision transformer is open_clip's. It takes over the text tower of the small CLIP
(``synth-clip``), so its image tower is trained to give the same vectors as that CLIP's ResNet. The
captions are not used. Losses inside the face are added, without which the transformer learns half
as fast: the parts of the face under each patch, the landmarks and the action units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmdfer.synthetic import faces
from mmdfer.synthetic.small_clip.training import au_error, optimise, to_tensor
from mmdfer.synthetic.small_clip.training_faces import POOL_SIZE, VIT_STEP, resize, stream

VISION: dict[str, Any] = dict(
    image_size=64, patch_size=8, width=192, layers=4, head_width=64, mlp_ratio=2.25
)
CELLS = 4  # cells of each patch, along each side, whose part of the face is predicted

# The weights of the losses.
DISTILL, UNITS, CLASS_UNITS, PATCH_UNITS, LANDMARKS, MASK = 10.0, 1.0, 0.5, 0.5, 0.5, 0.5

# The landmark that takes the place of each one in a mirrored face, in the layout of iBUG 300-W.
_MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
)
_FIXED = [27, 28, 29, 30, *range(36, 48)]  # bridge of the nose and eyes


@dataclass(frozen=True)
class Settings:
    """Hold the settings of the training, which determine the weights.

    Attributes:
        seed: Seed of the faces, the batches and the initial weights.
        steps: Number of training steps.
        batch: Number of faces in a batch.
        lr: Peak of the learning rate of Muon, for the matrices of the blocks.
        adamw_lr: Peak of the learning rate of AdamW, for all other parameters.
        faces: Number of faces to render for training.
        threads: Number of threads of PyTorch. Sums depend on it, and so the weights too.
        bf16: Whether the image tower computes in bfloat16 during training.
    """

    seed: int = 0
    steps: int = 3000
    batch: int = 64
    lr: float = 5e-3
    adamw_lr: float = 1e-3
    faces: int = 80000
    threads: int = 2
    bf16: bool = True


def augment(
    rng: np.random.Generator, images: np.ndarray, masks: np.ndarray, landmarks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop a random square from each face, resize it to 64 pixels, and mirror half of them.

    Args:
        rng: The random generator of the step.
        images: Faces (N, 72, 72, 3), RGB uint8.
        masks: Parts of the face (N, 72, 72), uint8.
        landmarks: Landmarks (N, 68, 2) in pixels.

    Returns:
        Faces (N, 64, 64, 3); the part in the centre of each cell (N, 32, 32); and landmarks
        (N, 68, 2) relative to the centre of the eyes and the bridge of the nose.
    """
    size = VISION['image_size']
    grid = size // VISION['patch_size'] * CELLS
    side = int(rng.integers(size, POOL_SIZE + 1))
    corners = rng.integers(0, POOL_SIZE - side + 1, (len(images), 2))
    mirrored = rng.random(len(images)) < 0.5
    views = np.empty((len(images), size, size, 3), np.uint8)
    parts = np.empty((len(images), grid, grid), np.uint8)
    centres = ((np.arange(grid) + 0.5) * side / grid).astype(int)
    for number, (y, x) in enumerate(corners):
        view = resize(images[number, y : y + side, x : x + side], size)
        part = masks[number, y : y + side, x : x + side][np.ix_(centres, centres)]
        turn = slice(None, None, -1) if mirrored[number] else slice(None)
        views[number], parts[number] = view[:, turn], part[:, turn]
    points = landmarks * (size / side)
    points = np.where(mirrored[:, None, None], (points * [-1, 1])[:, _MIRRORED], points)
    return views, parts, points - points[:, _FIXED].mean(1, keepdims=True)


class Objective(nn.Module):
    """Compute the training loss of the image tower, and hold the layers that only training needs.

    Args:
        student: The CLIP with the image tower to train.
        teacher: The small CLIP with the ResNet. It is frozen.
        pool: The faces, as :func:`render_pool` returns them.
        bf16: Whether the image tower computes in bfloat16.
    """

    def __init__(
        self,
        student: open_clip.CLIP,
        teacher: open_clip.CLIP,
        pool: dict[str, np.ndarray],
        bf16: bool,
    ) -> None:
        super().__init__()
        self.visual, self.pool, self.bf16 = student.visual, pool, bf16
        self._teacher = [teacher]  # in a list, so that it is not one of the trained modules
        width, dims = VISION['width'], student.text_projection.shape[1]
        units = len(faces.AUS)
        self.units = nn.Linear(dims, units)
        self.class_units, self.patch_units = nn.Linear(width, units), nn.Linear(width, units)
        self.landmarks = nn.Linear(width, 2 * 68)
        self.mask = nn.Linear(width, CELLS**2 * len(faces.PARTS))
        counts = np.bincount(pool['masks'][:2000].ravel(), minlength=len(faces.PARTS))
        rare = 1 / np.sqrt(np.maximum(counts, 1) / counts.sum())
        self._rare = torch.from_numpy(rare / rare.mean()).float()
        points = pool['landmarks'] - pool['landmarks'][:, _FIXED].mean(1, keepdims=True)
        self._mean, self._std = (
            torch.from_numpy(values).float() for values in (points.mean(0), points.std(0) + 1e-3)
        )

    def forward(self, rng: np.random.Generator, batch: int) -> Tensor:
        """Draw a batch of faces, and return the loss, a scalar."""
        chosen = rng.choice(len(self.pool['images']), batch, replace=False)
        drawn = (self.pool[name][chosen] for name in ('images', 'masks', 'landmarks'))
        views, parts, points = augment(rng, *drawn)
        images = to_tensor(views)
        with torch.inference_mode():
            wanted = F.normalize(self._teacher[0].visual(images), dim=-1)
        vector, token, patches = self._encode(images)
        unit = F.normalize(vector, dim=-1)  # (N, D)
        aus = torch.from_numpy(self.pool['aus'][chosen]).float()
        expected = (torch.from_numpy(points).float() - self._mean) / self._std
        return (
            DISTILL * (1 - (unit * wanted.clone()).sum(-1)).mean()
            # Unit vectors have entries of 1/sqrt(D); the linear map expects entries of about 1.
            + UNITS * au_error(self.units(unit * unit.shape[1] ** 0.5), aus)
            + CLASS_UNITS * au_error(self.class_units(token), aus)
            + PATCH_UNITS * au_error(self.patch_units(patches.mean(1)), aus)
            + LANDMARKS * F.mse_loss(self.landmarks(token), expected.flatten(1))
            + MASK * self._mask_error(patches, torch.from_numpy(parts).long())
        )

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images to vectors (N, D), class tokens (N, W) and patch tokens (N, P, W)."""
        # torch's fused attention is five times slower than plain products in bfloat16 on the CPU.
        with torch.autocast('cpu', torch.bfloat16, self.bf16), sdpa_kernel(SDPBackend.MATH):
            x = self.visual.transformer(self.visual._embeds(images))
            token, patches = self.visual._pool(x)
            vector = token @ self.visual.proj
        return vector.float(), token.float(), patches.float()

    def _mask_error(self, patches: Tensor, parts: Tensor) -> Tensor:
        """Return the cross-entropy of the parts of the face in the cells of each patch.

        Rare parts weigh more.

        Args:
            patches: Patch tokens (N, P, W).
            parts: The part of each cell (N, grid, grid).
        """
        side = parts.shape[1] // CELLS  # patches along a side
        cells = parts.unflatten(2, (side, CELLS)).unflatten(1, (side, CELLS))
        cells = cells.transpose(2, 3).flatten(3).flatten(1, 2)  # (N, P, cells)
        logits = self.mask(patches).unflatten(2, (CELLS**2, -1))
        return F.cross_entropy(logits.flatten(0, 2), cells.flatten(), self._rare)


class Muon(torch.optim.Optimizer):
    """Update matrices by their orthogonalised momentum (Jordan et al., "Muon", 2024).

    torch.optim.Muon exists only in newer releases of torch, and would take the stacked matrices of
    query, key and value for one.

    Args:
        params: Matrices to update. A matrix with three times as many rows as columns is taken for
            three stacked square ones.
        lr: Learning rate.
        momentum: Momentum, with Nesterov's correction.
        weight_decay: Decoupled weight decay.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            lr, momentum = group['lr'], group['momentum']
            for p in (p for p in group['params'] if p.grad is not None):
                state = self.state[p]
                buffer = state.setdefault('momentum', torch.zeros_like(p))
                buffer.mul_(momentum).add_(p.grad)
                update = p.grad.add(buffer, alpha=momentum)
                stacked = 3 if p.shape[0] == 3 * p.shape[1] else 1
                parts = [orthogonalise(part) for part in update.chunk(stacked)]
                scale = 0.2 * max(parts[0].shape) ** 0.5
                p.mul_(1 - lr * group['weight_decay'])
                p.add_(torch.cat(parts), alpha=-lr * scale)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Move the singular values of a matrix to about 1 by Newton-Schulz iterations in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315  # the coefficients of the article
    x = matrix.bfloat16()
    wide = x.shape[0] > x.shape[1]
    x = x.T if wide else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if wide else x).to(matrix.dtype)


def make_optimizers(
    objective: Objective, settings: Settings
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Build Muon for the matrices of the blocks, and AdamW for all other parameters."""
    blocks = [p for p in objective.visual.transformer.parameters() if p.ndim == 2]
    ids = set(map(id, blocks))
    others = [p for p in objective.parameters() if id(p) not in ids]
    adamw = torch.optim.AdamW(
        others, settings.adamw_lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.05
    )
    return Muon(blocks, settings.lr), adamw


def train(
    student: open_clip.CLIP,
    teacher: open_clip.CLIP,
    pool: dict[str, np.ndarray],
    settings: Settings,
    work: Path,
    resume: bool = False,
) -> float:
    """Train the image tower of a CLIP in place, and save the state of the training every minute.

    Args:
        student: The CLIP whose image tower is trained.
        teacher: The small CLIP with the ResNet.
        pool: The faces with masks and landmarks, as :func:`render_pool` returns them.
        settings: The settings of the training.
        work: The folder of the state.
        resume: Whether to continue from the saved state, if there is one.

    Returns:
        The seconds of the whole training, including those before an interruption.
    """
    objective = Objective(student, teacher.eval(), pool, settings.bf16)

    def loss(step: int) -> Tensor:
        return objective(stream(settings.seed, VIT_STEP, step), settings.batch)

    optimizers = make_optimizers(objective, settings)
    return optimise(loss, objective, optimizers, settings, work, resume)

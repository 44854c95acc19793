"""Train the small CLIP on pooled faces and their captions."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from tqdm import tqdm

from mmdfer.errors import DFERError
from mmdfer.synthetic import faces
from mmdfer.synthetic.small_clip.captions import (
    expression_captions,
    unit_captions,
    unit_sentences,
)
from mmdfer.synthetic.small_clip.training_faces import (
    POOL_SIZE,
    STEP,
    resize,
    sources_digest,
    stream,
    write_file,
)

SAVE_SECONDS = 60  # between two states of training
SEEING = 0.6  # share of the steps in which the image tower learns to see, without words
CAPTIONED = 64  # faces of a batch that get a caption of their own

VISION: dict[str, Any] = {'image_size': 64, 'layers': [1, 1, 1, 1], 'width': 16, 'head_width': 32}
TEXT = {'context_length': 77, 'width': 128, 'heads': 4, 'layers': 3}
EMBED_DIM = 128


@dataclass(frozen=True)
class Settings:
    """What decides the weights.

    Attributes:
        seed: The seed of faces, batches and first weights.
        steps: The number of steps.
        batch: The faces in a batch.
        lr: The highest learning rate.
        faces: The number of faces to render for training.
        threads: The threads of training, on which sums depend.
        bf16: Whether the image tower computes in bfloat16 while it trains.
    """

    seed: int = 0
    steps: int = 1500
    batch: int = 128
    lr: float = 2e-3
    faces: int = 40000
    threads: int = 1
    bf16: bool = True


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Turn (N, H, W, 3) bytes into (N, 3, H, W), normalised by OpenAI CLIP's mean and std."""
    mean = np.float32(OPENAI_DATASET_MEAN) * 255
    std = np.float32(OPENAI_DATASET_STD) * 255
    return torch.from_numpy((images - mean) / std).permute(0, 3, 1, 2)


def augment(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Crop a random square (one size for all, a place for each), resize to the tower's, mirror.

    Args:
        images: (N, 72, 72, 3).

    Returns:
        (N, 64, 64, 3).
    """
    size = VISION['image_size']
    side = int(rng.integers(size, POOL_SIZE + 1))
    corners = rng.integers(0, POOL_SIZE - side + 1, (len(images), 2))
    views = np.empty((len(images), size, size, 3), np.uint8)
    for view, image, (y, x), mirrored in zip(
        views, images, corners, rng.random(len(images)) < 0.5, strict=True
    ):
        crop = resize(image[y : y + side, x : x + side], size)
        view[:] = crop[:, ::-1] if mirrored else crop
    return views


def encode_text(model: open_clip.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """Encode (N, 77) tokens up to the last end token only: (N, D).

    The tower is causal, so what stands after the end token changes nothing; leaving it out
    spares two thirds of the text tower's work.
    """
    end = tokens.argmax(dim=-1)
    length = int(end.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])  # (N, L, W)
    x = model.ln_final(x)[torch.arange(len(x)), end]  # (N, W)
    return x @ model.text_projection


def contrastive_loss(
    image: torch.Tensor, text: torch.Tensor, which: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """CLIP's symmetric loss where faces may share a caption.

    Args:
        image: (N, D) unit vectors.
        text: (M, D) unit vectors of the batch's different captions.
        which: (N,) the caption of each face.
        scale: the inverse temperature.
    """
    logits = scale * image @ text.T  # (N, M)
    shares = F.one_hot(which, len(text)).T.float()  # (M, N)
    shares = shares / shares.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, which) + F.cross_entropy(logits.T, shares)) / 2


class Objective(torch.nn.Module):
    """The losses over a CLIP, and the parameters that only training needs.

    Contrast alone learns too little from the few faces that a CPU can pass in minutes. So the
    image tower starts with its unit vectors read out linearly as action units (`read_out`), and
    goes on with it while both towers learn

    - captions of action units against faces, as CLIP is trained;
    - captions of expressions against the faces that have one; classes share a caption;
    - that the cosine of a face and 'a face with lid tightener' follows how much of it shows, with
      a slope and an offset for each action unit.
    """

    def __init__(
        self, model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, bf16: bool
    ) -> None:
        super().__init__()
        self.clip, self.tokenizer, self.bf16 = model, tokenizer, bf16
        self.read_out = torch.nn.Linear(EMBED_DIM, len(faces.AUS))
        self.slope = torch.nn.Parameter(torch.full((len(faces.AUS),), 3.0))
        self.offset = torch.nn.Parameter(torch.zeros(len(faces.AUS)))

    def forward(
        self, pool: dict[str, np.ndarray], rng: np.random.Generator, batch: int, words: bool
    ) -> torch.Tensor:
        """Draw a batch from the pool and return its loss: a function of weights and stream.

        Args:
            pool: As `render_pool` returns it.
            rng: The step's own stream.
            batch: Faces to draw.
            words: Whether the text tower takes part.
        """
        chosen = rng.choice(len(pool['images']), batch, replace=False)
        views = to_tensor(augment(rng, pool['images'][chosen]))
        with torch.autocast('cpu', torch.bfloat16, enabled=self.bf16):
            image = self.clip.visual(views)
        image = F.normalize(image.float(), dim=-1)  # (N, D)
        aus = torch.from_numpy(pool['aus'][chosen]).float()
        # Unit vectors have entries of 1/sqrt(D); the linear map expects entries of about 1.
        loss = au_error(self.read_out(image * EMBED_DIM**0.5), aus)
        return loss + self.words(rng, image, pool, chosen) if words else loss

    def words(
        self,
        rng: np.random.Generator,
        image: torch.Tensor,
        pool: dict[str, np.ndarray],
        chosen: np.ndarray,
    ) -> torch.Tensor:
        """Return the three losses between faces (N, D) and what is said about them."""
        stop = '.' if rng.random() < 0.5 else ''
        aus = pool['aus'][chosen]
        named = np.flatnonzero(pool['emotion'][chosen] >= 0)
        rows = chosen[named]
        feelings = expression_captions(rng, pool['emotion'][rows], pool['strength'][rows])
        units = unit_captions(rng, aus[:CAPTIONED])
        cosines = image @ self.encode([text + stop for text in unit_sentences(rng)]).T  # (N, 16)
        return (
            self.match(image[:CAPTIONED], [text + stop for text in units])
            + self.match(image[named], [text + stop for text in feelings])
            + au_error(cosines * self.slope + self.offset, torch.from_numpy(aus).float())
        )

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Encode texts to unit vectors (N, D)."""
        return F.normalize(encode_text(self.clip, self.tokenizer(list(texts))), dim=-1)

    def match(self, image: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """Tell faces (N, D) and their N captions apart."""
        different = sorted(set(texts))
        which = torch.tensor([different.index(text) for text in texts])
        scale = self.clip.logit_scale.exp()
        return contrastive_loss(image, self.encode(different), which, scale)


def au_error(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error of action units (N, 16) in units of their variance, their mean."""
    return ((predicted - target).square() / target.var(dim=0).clamp_min(1e-3)).mean()


def optimizer_for(model: torch.nn.Module, lr: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only, as CLIP's does."""
    parameters = list(model.parameters())
    groups = [
        {'params': [p for p in parameters if p.ndim >= 2], 'weight_decay': 0.1},
        {'params': [p for p in parameters if p.ndim < 2], 'weight_decay': 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over a twentieth of the steps, then a cosine to zero."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


class State:
    """The training's state on disk, written aside: what an interrupted run goes on from."""

    def __init__(
        self, work: Path, settings: Settings, *parts: torch.nn.Module | torch.optim.Optimizer
    ) -> None:
        self.path = work / 'state.pt'
        self.recipe = [*astuple(settings), sources_digest()]
        self.parts = parts

    def load(self) -> tuple[int, float]:
        """Put the saved state back; return the steps done and the seconds they took.

        Raises:
            DFERError: The state is of a training with other settings.
        """
        saved = torch.load(self.path, weights_only=True)
        if saved['recipe'] != self.recipe:
            raise DFERError(
                f'{self.path}: its training was started with other settings or another '
                'generator: run without --resume, or give the settings it was started with'
            )
        for part, state in zip(self.parts, saved['parts'], strict=True):
            part.load_state_dict(state)
        return saved['step'], saved['seconds']

    def save(self, step: int, seconds: float) -> None:
        """Write what `load` reads."""
        buffer = io.BytesIO()
        saved = {'recipe': self.recipe, 'step': step, 'seconds': seconds}
        torch.save(saved | {'parts': [part.state_dict() for part in self.parts]}, buffer)
        write_file(self.path, buffer.getvalue())


def train(
    model: open_clip.CLIP,
    tokenizer: open_clip.SimpleTokenizer,
    pool: dict[str, np.ndarray],
    settings: Settings,
    work: Path,
    resume: bool = False,
) -> float:
    """Train in place, from the last saved state if asked to; save the state every minute.

    Args:
        model: The CLIP to train.
        tokenizer: Its tokenizer.
        pool: The faces, as `render_pool` returns them.
        settings: What decides the weights.
        work: The folder of the state.
        resume: Whether to go on from the state, where there is one.

    Returns:
        The seconds spent, those before an interruption included.
    """
    objective = Objective(model, tokenizer, settings.bf16)
    optimizer = optimizer_for(objective, settings.lr)
    state = State(work, settings, objective, optimizer)
    done, spent = state.load() if resume and state.path.exists() else (0, 0.0)
    objective.train()
    saved = started = time.monotonic()
    loss_mean = math.nan
    progress = tqdm(
        range(done, settings.steps), initial=done, total=settings.steps, desc='training'
    )
    for step in progress:
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step, settings.steps, settings.lr)
        words = step >= SEEING * settings.steps
        batch = settings.batch if words else settings.batch // 2
        loss = objective(pool, stream(settings.seed, STEP, step), batch, words)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        loss_mean = loss.item() if math.isnan(loss_mean) else 0.98 * loss_mean + 0.02 * loss.item()
        progress.set_postfix(loss=f'{loss_mean:.3f}', refresh=False)
        if time.monotonic() - saved >= SAVE_SECONDS or step + 1 == settings.steps:
            saved = time.monotonic()
            state.save(step + 1, spent + saved - started)
    return spent + time.monotonic() - started

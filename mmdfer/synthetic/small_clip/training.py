"""Train the small CLIP on rendered faces and their captions."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

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

SAVE_SECONDS = 60  # time between two saved states of the training
SEEING = 0.6  # fraction of the steps in which the image tower is trained without the text tower
CAPTIONED = 64  # number of faces in a batch that get a caption of their action units

VISION: dict[str, Any] = {'image_size': 64, 'layers': [1, 1, 1, 1], 'width': 16, 'head_width': 32}
TEXT = {'context_length': 77, 'width': 128, 'heads': 4, 'layers': 3}
EMBED_DIM = 128


@dataclass(frozen=True)
class Settings:
    """Hold the settings of the training, which determine the weights.

    Attributes:
        seed: Seed of the faces, the batches and the initial weights.
        steps: Number of training steps.
        batch: Number of faces in a batch.
        lr: Peak of the learning rate.
        faces: Number of faces to render for training.
        threads: Number of threads of PyTorch. Sums depend on it, and so the weights too.
        bf16: Whether the image tower computes in bfloat16 during training.
    """

    seed: int = 0
    steps: int = 1500
    batch: int = 128
    lr: float = 2e-3
    faces: int = 40000
    threads: int = 1
    bf16: bool = True


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Normalise frames (N, H, W, 3) by the mean and std of OpenAI's CLIP, to (N, 3, H, W)."""
    mean = np.float32(OPENAI_DATASET_MEAN) * 255
    std = np.float32(OPENAI_DATASET_STD) * 255
    return torch.from_numpy((images - mean) / std).permute(0, 3, 1, 2)


def augment(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Crop a random square from each face, resize it to the input size, and mirror half of them.

    The squares of a batch have the same random size, but each has its own position.

    Args:
        rng: The random generator of the step.
        images: Faces (N, 72, 72, 3), RGB uint8.

    Returns:
        The augmented faces (N, 64, 64, 3), RGB uint8.
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
    """Encode texts with CLIP's text tower, without the padding after the longest text.

    The text tower is causal, so the padding after the end token does not change the result. Without
    it, the text tower takes a third of the time.

    Args:
        model: The CLIP.
        tokens: Token ids (N, 77).

    Returns:
        The text vectors (N, D), not normalised.
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
    """Compute CLIP's symmetric contrastive loss for faces that may share captions.

    From captions to faces, the target probability of a caption is divided equally among its faces.

    Args:
        image: Unit vectors (N, D) of the faces.
        text: Unit vectors (M, D) of the different captions of the batch.
        which: Index (N,) of each face's caption.
        scale: The inverse temperature.

    Returns:
        The loss, a scalar.
    """
    logits = scale * image @ text.T  # (N, M)
    shares = F.one_hot(which, len(text)).T.float()  # (M, N)
    shares = shares / shares.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, which) + F.cross_entropy(logits.T, shares)) / 2


class Objective(torch.nn.Module):
    """Compute the training losses of the small CLIP, and hold the parameters of the losses.

    A contrastive loss alone learns too little from the few faces that a CPU processes in minutes.
    So the image tower is first trained without the text tower: a linear layer (`read_out`) predicts
    the action units from the tower's unit vectors. Later both towers are trained. Then this loss
    remains, and three losses are added:

    - the contrastive loss of CLIP between faces and captions of their action units;
    - the contrastive loss between faces with an expression and captions of the expression, which
      faces of one class share;
    - the error of action units predicted from the cosine between a face and a caption of a single
      unit ('a face with lid tightener'), with a learned slope and offset for each unit.

    Args:
        model: The CLIP to train.
        tokenizer: The tokenizer of the CLIP.
        bf16: Whether the image tower computes in bfloat16.
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
        """Draw a batch of faces from the pool and return the loss of the batch.

        The loss depends only on the weights, the pool and the random generator.

        Args:
            pool: The faces, as returned by `render_pool`.
            rng: The random generator of the step.
            batch: Number of faces to draw.
            words: Whether the losses of the text tower are included.

        Returns:
            The loss, a scalar.
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
        """Compute the sum of the three losses between faces and captions.

        Args:
            rng: The random generator of the step.
            image: Unit vectors (N, D) of the faces.
            pool: All faces, as returned by `render_pool`.
            chosen: Indices (N,) of the batch's faces in the pool.

        Returns:
            The loss, a scalar.
        """
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
        """Encode N texts to unit vectors (N, D)."""
        return F.normalize(encode_text(self.clip, self.tokenizer(list(texts))), dim=-1)

    def match(self, image: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        """Compute the contrastive loss between faces, unit vectors (N, D), and their N captions."""
        different = sorted(set(texts))
        which = torch.tensor([different.index(text) for text in texts])
        scale = self.clip.logit_scale.exp()
        return contrastive_loss(image, self.encode(different), which, scale)


def au_error(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the mean squared error of action units (N, 16), relative to their variance."""
    return ((predicted - target).square() / target.var(dim=0).clamp_min(1e-3)).mean()


def make_optimizer(model: torch.nn.Module, lr: float) -> torch.optim.AdamW:
    """Build AdamW with weight decay for matrices only, as in the training of OpenAI's CLIP."""
    parameters = list(model.parameters())
    groups = [
        {'params': [p for p in parameters if p.ndim >= 2], 'weight_decay': 0.1},
        {'params': [p for p in parameters if p.ndim < 2], 'weight_decay': 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Compute the learning rate of a step: a linear warm-up, then a cosine decay to zero.

    Args:
        step: Number of the step, from 0.
        steps: Number of all steps. The first twentieth is the warm-up.
        peak: Learning rate at the end of the warm-up.
    """
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


class State:
    """Save and load the state of the training, from which an interrupted run continues.

    Args:
        work: The folder of the state.
        settings: The settings of the training.
        parts: The modules and optimizers with a state.
    """

    def __init__(
        self, work: Path, settings: AnySettings, *parts: torch.nn.Module | torch.optim.Optimizer
    ) -> None:
        self.path = work / 'state.pt'
        self.recipe = [*asdict(settings).values(), sources_digest()]
        self.parts = parts

    def load(self) -> tuple[int, float]:
        """Load the saved state into the modules and optimizers.

        Returns:
            The number of steps done, and the seconds they took.

        Raises:
            DFERError: If the state was saved with other settings or another generator.
        """
        saved = torch.load(self.path, weights_only=True)
        if saved['recipe'] != self.recipe:
            raise DFERError(
                f'{self.path}: the training was saved with other settings, or another version '
                'of the code that draws the faces; give the arguments of the first run, or train '
                'from the start without --resume'
            )
        for part, state in zip(self.parts, saved['parts'], strict=True):
            part.load_state_dict(state)
        return saved['step'], saved['seconds']

    def save(self, step: int, seconds: float) -> None:
        """Save the state after a number of steps, which took this number of seconds."""
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
    """Train a CLIP in place, and save the state of the training every minute.

    Args:
        model: The CLIP to train.
        tokenizer: The tokenizer of the CLIP.
        pool: The faces, as returned by `render_pool`.
        settings: The settings of the training.
        work: The folder of the state.
        resume: Whether to continue from the saved state, if there is one.

    Returns:
        The seconds of the whole training, including those before an interruption.
    """
    objective = Objective(model, tokenizer, settings.bf16)

    def loss(step: int) -> torch.Tensor:
        with torch.no_grad():  # after the step before
            model.logit_scale.clamp_(0, math.log(100))
        words = step >= SEEING * settings.steps
        batch = settings.batch if words else settings.batch // 2
        return objective(pool, stream(settings.seed, STEP, step), batch, words)

    optimizers = [make_optimizer(objective, settings.lr)]
    spent = optimise(loss, objective, optimizers, settings, work, resume)
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return spent


class AnySettings(Protocol):
    """Describe what :func:`optimise` needs of the settings of a training, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def steps(self) -> int:
        """Return the number of training steps."""


def optimise(
    loss_of: Callable[[int], torch.Tensor],
    objective: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    settings: AnySettings,
    work: Path,
    resume: bool,
) -> float:
    """Minimise a loss, and save the state of the training every minute.

    Args:
        loss_of: Function that returns the loss of a step, given its number from 0.
        objective: The module with all trained parameters.
        optimizers: The optimizers. Their learning rates are the peaks of the schedule.
        settings: The settings of the training, with the number of steps.
        work: The folder of the state.
        resume: Whether to continue from the saved state, if there is one.

    Returns:
        The seconds of the whole training, including those before an interruption.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [group['lr'] for group in groups]
    state = State(work, settings, objective, *optimizers)
    done, spent = state.load() if resume and state.path.exists() else (0, 0.0)
    # Loading the state of an optimizer replaces its groups.
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    objective.train()
    saved = started = time.monotonic()
    loss_mean = math.nan
    progress = tqdm(
        range(done, settings.steps), initial=done, total=settings.steps, desc='training'
    )
    for step in progress:
        for group, peak in zip(groups, peaks, strict=True):
            group['lr'] = learning_rate(step, settings.steps, peak)
        loss = loss_of(step)
        objective.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        loss_mean = loss.item() if math.isnan(loss_mean) else 0.98 * loss_mean + 0.02 * loss.item()
        progress.set_postfix(loss=f'{loss_mean:.3f}', refresh=False)
        if time.monotonic() - saved >= SAVE_SECONDS or step + 1 == settings.steps:
            saved = time.monotonic()
            state.save(step + 1, spent + saved - started)
    return spent + time.monotonic() - started

"""Train the small CLIP of the synthetic benchmark, from nothing, on single rendered faces.

    python tools/train_synth_clip.py --out mmdfer/synthetic/small_clip

writes the architecture, the tokenizer's merges, the weights and their provenance to ``--out``.
It stands in for OpenAI's CLIP on a machine that cannot download it: an image tower that sees a
face, a text tower that knows the names of action units and of expressions, no notion of time.
The image tower is CLIP's ResNet (as in RN50), small: on the few hundred thousand faces that two
CPU cores pass in the time given, its vision transformer had hardly begun to learn.

Faces are drawn from the package's own generator, from random streams of their own (`NAMESPACE`):
no identity of the benchmark is ever seen. Training reads no clip and no label of the benchmark.
The work (``--work``) holds the rendered faces and the training state; after an interruption the
same command with ``--resume`` goes on from the last state and ends with the same weights.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import load_file, save
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from tqdm import tqdm

from mmdfer.errors import DFERError, one_line_errors
from mmdfer.files import write_aside
from mmdfer.synthetic import emotions, faces
from mmdfer.synthetic.small_clip import ARCH

# First words of every random stream here; the benchmark's streams start otherwise.
NAMESPACE = tuple(b'synth-clip')
TRAIN, TEST, STEP, WORDS = range(4)  # the streams' second word

RENDER_SIZE = 112  # pixels a face is rendered at, as in the benchmark's videos
POOL_SIZE = 72  # pixels a pooled face is kept at: its crop of 64 to 72 becomes the tower's 64
SHARD = 2000  # faces a file of the pool
MAX_MERGES = 600
SAVE_SECONDS = 60  # between two states of training
SEEING = 0.6  # share of the steps in which the image tower learns to see, without words
CAPTIONED = 64  # faces of a batch that get a caption of their own

VISION = {'image_size': 64, 'layers': [1, 1, 1, 1], 'width': 16, 'head_width': 32}
TEXT = {'context_length': 77, 'width': 128, 'heads': 4, 'layers': 3}
EMBED_DIM = 128

# How people say what an action unit does, beside its FACS name.
PLAIN = {
    'AU1': 'raised inner eyebrows',
    'AU2': 'raised outer eyebrows',
    'AU4': 'furrowed eyebrows',
    'AU5': 'widened eyes',
    'AU6': 'raised cheeks',
    'AU7': 'narrow eyes',
    'AU9': 'a wrinkled nose',
    'AU10': 'a raised upper lip',
    'AU12': 'a smiling mouth',
    'AU15': 'a downward turned mouth',
    'AU17': 'a raised chin',
    'AU20': 'stretched lips',
    'AU23': 'tightened lips',
    'AU25': 'parted lips',
    'AU26': 'an open mouth',
    'AU45': 'closed eyes',
}
ADJECTIVE = {
    'happiness': 'happy',
    'sadness': 'sad',
    'neutral': 'neutral',
    'anger': 'angry',
    'surprise': 'surprised',
    'disgust': 'disgusted',
    'fear': 'fearful',
}
FACE_TEMPLATES = ('a face with {}', 'a person with {}', 'a photo of a face with {}', '{}')
EMOTION_TEMPLATES = (
    'an expression of {noun}',
    'a person with an expression of {noun}',
    'a photo of a face with an expression of {noun}',
    'a face showing {noun}',
    '{article} {adjective} face',
    'a photo of {article} {adjective} person',
    '{noun}',
)
REST = ('a neutral face with no action units', 'a relaxed face', 'a face at rest', 'a calm face')


def stream(seed: int, kind: int, *rest: int) -> np.random.Generator:
    """Return the random stream of one purpose, the same on every machine."""
    return np.random.default_rng([*NAMESPACE, seed, kind, *rest])


# Faces ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pose:
    """What one face shows.

    Attributes:
        aus: (16,) intensities of the action units, 0 to 1.
        emotion: position in ``emotions.CLASSES``, or -1 where the mixture is no emotion's.
        strength: how strongly the emotion shows, 0 to 1; 0 where there is none.
    """

    aus: np.ndarray
    emotion: int
    strength: float


def apex(rng: np.random.Generator, emotion: str) -> np.ndarray:
    """Return the action units (16,) of an expression at its height, optional ones by chance."""
    optional = emotions.OPTIONAL_AUS[emotion]
    brought = {name: value for name, value in optional.items() if rng.random() < 0.5}
    shown = emotions.EMOTION_AUS[emotion] | brought
    return np.array([shown.get(name, 0.0) for name in faces.AUS])


def emotion_pose(rng: np.random.Generator, emotion: int, strength: float) -> Pose:
    """Draw an expression: its units vary in strength, and one in eight stays away."""
    aus = apex(rng, emotions.CLASSES[emotion]) * strength
    aus = aus * rng.uniform(0.6, 1.0, aus.shape) * (rng.random(aus.shape) > 0.125)
    return Pose(aus, emotion, strength)


def mixed_pose(rng: np.random.Generator) -> Pose:
    """Draw up to five action units that need not belong together."""
    aus = np.zeros(len(faces.AUS))
    chosen = rng.choice(len(aus), rng.integers(0, 6), replace=False)
    aus[chosen] = rng.uniform(0.15, 1.0, len(chosen))
    return Pose(aus, -1, 0.0)


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw half of the faces from the emotions, faint to full, and half from free mixtures."""
    if rng.random() < 0.5:
        return mixed_pose(rng)
    return emotion_pose(rng, int(rng.integers(len(emotions.CLASSES))), float(rng.uniform(0.2, 1)))


def draw_face(rng: np.random.Generator, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Render a pose on a new identity, half of the time through lossy compression.

    Videos reach the benchmark's models compressed; JPEG stands in for that here.

    Returns:
        The face (112, 112, 3), and what it shows in truth (16,): the pose over the face at rest.
    """
    identity = faces.sample_identity(rng)
    rest = np.asarray(identity.rest)
    aus = rest + pose.aus * (1 - rest)
    shot = faces.sample_shot(rng)
    image = faces.render(identity, aus, shot, time=rng.random(), size=RENDER_SIZE, rng=rng)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 96))]
        written = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
        image = cv2.cvtColor(cv2.imdecode(written, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return image, aus


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a square image as the benchmark's pipeline does (bilinear, no antialiasing)."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def render_shard(path: Path, seed: int, shard: int) -> Path:
    """Render `SHARD` faces of the training stream and write them to a file, aside first."""
    if path.exists():
        return path
    cv2.setNumThreads(1)
    rngs = [stream(seed, TRAIN, shard, index) for index in range(SHARD)]
    poses = [draw_pose(rng) for rng in rngs]
    images, aus = zip(*(draw_face(*pair) for pair in zip(rngs, poses, strict=True)), strict=True)
    columns = {
        'images': np.stack([resize(image, POOL_SIZE) for image in images]),
        'aus': np.stack(aus),
        'emotion': np.array([pose.emotion for pose in poses], np.int8),
        'strength': np.array([pose.strength for pose in poses]),
    }
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    write_file(path, buffer.getvalue())
    return path


def render_pool(folder: Path, seed: int, n_faces: int, workers: int) -> dict[str, np.ndarray]:
    """Render the training faces, or take those already there.

    Returns:
        images (N, 72, 72, 3) uint8, aus (N, 16), emotion (N,), strength (N,).
    """
    shards = range(math.ceil(n_faces / SHARD))
    recipe = sources_digest()[:12]
    paths = [folder / f'faces-{recipe}-{seed}-{shard:03d}.npz' for shard in shards]
    with ProcessPoolExecutor(workers) as executor:
        jobs = [
            executor.submit(render_shard, *job)
            for job in zip(paths, [seed] * len(paths), shards, strict=True)
        ]
        for job in tqdm(jobs, desc='rendering', unit='shard'):
            job.result()
    loaded = [np.load(path, allow_pickle=False) for path in paths]
    names = ('images', 'aus', 'emotion', 'strength')
    return {name: np.concatenate([shard[name] for shard in loaded]) for name in names}


# Words ---------------------------------------------------------------------------------------


def degree(intensity: float) -> str:
    """Return the word that goes before a name at this intensity, with its space."""
    return 'slight ' if intensity < 0.4 else 'strong ' if intensity > 0.75 else ''


def join(parts: Sequence[str]) -> str:
    """Write a list as people do: 'a', 'a and b', 'a, b and c'."""
    return parts[0] if len(parts) == 1 else f'{", ".join(parts[:-1])} and {parts[-1]}'


def unit_caption(rng: np.random.Generator, aus: np.ndarray) -> str:
    """Say which action units (16,) show; a name each, some left unsaid, in any order."""
    seen = np.flatnonzero(aus > 0.15)
    if not len(seen):
        return str(rng.choice(REST))
    said = rng.permutation(seen[rng.random(len(seen)) < 0.85])
    plain = rng.random() < 0.35
    words = []
    for unit in said if len(said) else seen[:1]:
        name = (PLAIN if plain else faces.AU_NAMES)[faces.AUS[unit]]
        words.append(name if plain else degree(aus[unit]) + name)
    return str(rng.choice(FACE_TEMPLATES)).format(join(words))


def emotion_caption(template: str, emotion: int, strength: float, graded: bool) -> str:
    """Name an expression; where ``graded``, with how strong it is."""
    noun = emotions.CLASSES[emotion]
    adjective = ADJECTIVE[noun]
    if graded and noun != 'neutral' and 'an expression' in template:
        template = template.replace('an expression', f'a {degree(strength)}expression')
    article = 'an' if adjective[0] in 'aeiou' else 'a'
    text = template.format(noun=noun, adjective=adjective, article=article)
    return text.replace('a expression', 'an expression')


def caption_words(n: int = 4000) -> Counter[str]:
    """Count the words of captions drawn from a fixed stream: what the merges are learned from."""
    rng = stream(0, WORDS)
    counts: Counter[str] = Counter()
    for _ in range(n):
        pose = draw_pose(rng)
        text = unit_caption(rng, pose.aus)
        if pose.emotion >= 0:
            template = str(rng.choice(EMOTION_TEMPLATES))
            text += ' ' + emotion_caption(template, pose.emotion, pose.strength, True)
        counts.update(re.findall(r'[a-z]+', text.lower()))
    return counts


def learn_merges(counts: Counter[str], limit: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges for `SimpleTokenizer`, the commonest pair first.

    Args:
        counts: how often each word (lower-case ASCII letters) occurs.
        limit: the most merges to learn; fewer where every word has become one token.

    Returns:
        The merges in order. Ties go to the pair that sorts first, so the order is fixed.
    """
    words = {(*word[:-1], word[-1] + '</w>'): count for word, count in sorted(counts.items())}
    merges: dict[str, tuple[str, str]] = {}
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in words.items():
            for pair in zip(symbols, symbols[1:], strict=False):
                # Two merges to one string would be one token with two ids, which the tokenizer
                # cannot hold.
                if ''.join(pair) not in merges:
                    pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges[''.join(best)] = best
        words = {merge_pair(symbols, best): count for symbols, count in words.items()}
    return list(merges.values())


def merge_pair(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join every occurrence of the pair in a word's symbols, from the left."""
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


# Training ------------------------------------------------------------------------------------


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


def expression_captions(
    rng: np.random.Generator, emotion: np.ndarray, strength: np.ndarray
) -> list[str]:
    """Name the expressions of a batch, all in one wording: a class shares its caption."""
    template, graded = str(rng.choice(EMOTION_TEMPLATES)), rng.random() < 0.5
    pairs = zip(emotion.tolist(), strength.tolist(), strict=True)
    return [emotion_caption(template, *pair, graded) for pair in pairs]


def unit_captions(rng: np.random.Generator, aus: np.ndarray) -> list[str]:
    """Name the action units of a batch (N, 16), a wording for each face.

    One batch in eight is captioned in several sentences: they train the far positions.
    """
    repeats = 3 if rng.random() < 0.125 else 1
    return ['. '.join(unit_caption(rng, row) for _ in range(repeats)) for row in aus]


def unit_sentences(rng: np.random.Generator) -> list[str]:
    """Name each action unit by itself, all in one wording: 16 sentences."""
    template, names = str(rng.choice(FACE_TEMPLATES)), (PLAIN, faces.AU_NAMES)[rng.integers(2)]
    return [template.format(names[unit]) for unit in faces.AUS]


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

    def __init__(self, args: argparse.Namespace, *parts: torch.nn.Module | torch.optim.Optimizer):
        self.path: Path = args.work / 'state.pt'
        self.recipe = [args.seed, args.steps, args.batch, args.lr, args.faces, args.threads]
        self.recipe += [args.bf16, sources_digest()]
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
    args: argparse.Namespace,
) -> float:
    """Train in place from the last saved state, saving it every minute; return seconds spent."""
    objective = Objective(model, tokenizer, args.bf16)
    optimizer = optimizer_for(objective, args.lr)
    state = State(args, objective, optimizer)
    done, spent = state.load() if args.resume and state.path.exists() else (0, 0.0)
    objective.train()
    saved = started = time.monotonic()
    loss_mean = math.nan
    progress = tqdm(range(done, args.steps), initial=done, total=args.steps, desc='training')
    for step in progress:
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step, args.steps, args.lr)
        words = step >= SEEING * args.steps
        batch = args.batch if words else args.batch // 2
        loss = objective(pool, stream(args.seed, STEP, step), batch, words)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        loss_mean = loss.item() if math.isnan(loss_mean) else 0.98 * loss_mean + 0.02 * loss.item()
        progress.set_postfix(loss=f'{loss_mean:.3f}', refresh=False)
        if time.monotonic() - saved >= SAVE_SECONDS or step + 1 == args.steps:
            saved = time.monotonic()
            state.save(step + 1, spent + saved - started)
    return spent + time.monotonic() - started


# What comes of it ----------------------------------------------------------------------------


def held_out(seed: int, part: int, poses: Iterable[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """Render poses on identities of the test stream, cropped as the pipeline's tests are.

    Returns:
        Faces (N, 64, 64, 3) and what they show (N, 16).
    """
    drawn = [draw_face(stream(seed, TEST, part, i), pose) for i, pose in enumerate(poses)]
    views = np.stack([resize(image, 68)[2:66, 2:66] for image, _ in drawn])
    return views, np.stack([aus for _, aus in drawn])


@torch.inference_mode()
def encode_images(model: open_clip.CLIP, images: np.ndarray) -> np.ndarray:
    """Encode (N, 64, 64, 3) bytes to (N, D) vectors, as they leave the tower."""
    return torch.cat([model.visual(to_tensor(part)) for part in np.array_split(images, 8)]).numpy()


@torch.inference_mode()
def zero_shot_accuracy(
    model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, seed: int, per_class: int = 100
) -> tuple[float, dict[str, float]]:
    """Score apex faces of unseen identities against 'an expression of {class}.'

    Returns:
        Accuracy in percent over all classes, and for each class by name.
    """
    labels = np.repeat(np.arange(len(emotions.CLASSES)), per_class)
    rng = stream(seed, TEST, 0)
    poses = [emotion_pose(rng, int(label), float(rng.uniform(0.7, 1))) for label in labels]
    image = torch.from_numpy(encode_images(model, held_out(seed, 1, poses)[0]))
    prompts = [f'an expression of {name}.' for name in emotions.CLASSES]
    text = F.normalize(model.encode_text(tokenizer(prompts)), dim=-1)
    right = ((F.normalize(image, dim=-1) @ text.T).argmax(dim=-1).numpy() == labels) * 100.0
    recalls = {n: float(right[labels == i].mean()) for i, n in enumerate(emotions.CLASSES)}
    return float(right.mean()), recalls


def unit_r2(
    model: open_clip.CLIP, seed: int, n_fit: int = 3000, n_test: int = 1000
) -> tuple[float, dict[str, float]]:
    """Regress the action units linearly (ridge) on the unit image vectors of unseen identities.

    Returns:
        R squared on faces that the regression did not see: its mean, and for each action unit.
    """
    rng = stream(seed, TEST, 2)
    poses = [draw_pose(rng) for _ in range(n_fit + n_test)]
    images, aus = held_out(seed, 3, poses)
    vectors = encode_images(model, images)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ridge = RidgeCV(np.logspace(-4, 2, 7)).fit(vectors[:n_fit], aus[:n_fit])
    scores = r2_score(aus[n_fit:], ridge.predict(vectors[n_fit:]), multioutput='raw_values')
    return float(scores.mean()), dict(zip(faces.AUS, scores.tolist(), strict=True))


def write_file(path: Path, content: bytes) -> None:
    """Write a file aside and rename it."""
    with write_aside(path) as aside:
        aside.write_bytes(content)


def sources_digest() -> str:
    """Return the digest of the generator's source, on which every face depends."""
    sources = [Path(module.__file__ or '').read_bytes() for module in (faces, emotions)]
    return hashlib.sha256(b'\0'.join(sources)).hexdigest()


def write_words(out: Path) -> dict[str, Any]:
    """Learn the merges, write them and the architecture to ``out``, and return the latter."""
    merges = learn_merges(caption_words(), MAX_MERGES)
    # The tokenizer skips the first line, and would take an empty last one for a merge.
    lines = ['#version: 0.2', *(' '.join(pair) for pair in merges)]
    write_file(out / 'merges.txt.gz', gzip.compress('\n'.join(lines).encode(), 9, mtime=0))
    # 256 bytes, the same at a word's end, the merges, start and end of text.
    text = TEXT | {'vocab_size': 512 + len(merges) + 2}
    config = {'embed_dim': EMBED_DIM, 'vision_cfg': VISION, 'text_cfg': text}
    write_file(out / f'{ARCH}.json', (json.dumps(config, indent=4) + '\n').encode())
    return config


def write_weights(model: open_clip.CLIP, path: Path) -> str:
    """Write the weights in half precision, and return the file's digest."""
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    content = save(half)
    write_file(path, content)
    return hashlib.sha256(content).hexdigest()


def provenance(args: argparse.Namespace, digest: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Say what made the weights: command, seed, versions, digests, and the figures measured."""
    packages = ('torch', 'open_clip_torch', 'numpy', 'opencv-python', 'safetensors', 'scikit-learn')
    names = ('seed', 'steps', 'batch', 'lr', 'faces', 'threads', 'bf16')
    settings = {name: getattr(args, name) for name in names}
    flags = [f'--{name} {value}' for name, value in settings.items() if name != 'bf16']
    flags.append('--bf16' if args.bf16 else '--no-bf16')
    return {
        'command': f'python tools/train_synth_clip.py --out DIR {" ".join(flags)}',
        'settings': settings,
        'data': 'single faces drawn by mmdfer.synthetic.faces from random streams that begin with '
        f"the bytes of '{bytes(NAMESPACE).decode()}', which the benchmark does not use",
        'versions': {'python': platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        'generator_sha256': sources_digest(),
        'weights_sha256': digest,
        'figures': figures,
    }


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('--out', type=Path, required=True, help='where the four files go')
    parser.add_argument('--work', type=Path, default=Path('work_dirs/synth_clip'))
    parser.add_argument('--steps', type=int, default=1500)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--lr', type=float, default=2e-3)
    parser.add_argument('--faces', type=int, default=40000, help='training faces to render')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=1, help='for training; sums depend on it')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='for rendering')
    parser.add_argument(
        '--bf16',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='image tower in bfloat16 while it trains, twice as fast where the CPU has it',
    )
    parser.add_argument('--resume', action='store_true', help='go on from the last saved state')
    args = parser.parse_args(argv)
    if not 2 <= args.batch <= args.faces:
        parser.error(f'--batch {args.batch}: take 2 to --faces, which is {args.faces}')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Render, train, round to half precision, measure what is left, and write the four files."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    config = write_words(args.out)
    model = open_clip.CLIP(**config).to(memory_format=torch.channels_last)  # faster on CPUs
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(args.out / 'merges.txt.gz'))
    started = time.monotonic()
    pool = render_pool(args.work, args.seed, args.faces, args.workers)
    rendering = time.monotonic() - started
    training = train(model, tokenizer, pool, args)

    weights = args.out / f'{ARCH}.safetensors'
    digest = write_weights(model, weights)
    model.load_state_dict(load_file(weights))
    model.eval()
    accuracy, recalls = zero_shot_accuracy(model, tokenizer, args.seed)
    r2, by_unit = unit_r2(model, args.seed)
    figures = {
        'zero_shot_apex_accuracy_percent': accuracy,
        'zero_shot_apex_recall_percent': recalls,
        'action_unit_linear_r2': r2,
        'action_unit_linear_r2_by_unit': by_unit,
        'inverse_temperature': model.logit_scale.exp().item(),
        'rendering_seconds': round(rendering),
        'training_seconds': round(training),
    }
    record = provenance(args, digest, figures)
    write_file(args.out / f'{ARCH}.provenance.json', (json.dumps(record, indent=4) + '\n').encode())
    print(json.dumps(figures, indent=4))


if __name__ == '__main__':
    with one_line_errors():
        main()

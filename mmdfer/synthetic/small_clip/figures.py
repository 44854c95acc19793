"""Measure the accuracy of the small CLIP on faces of identities that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from mmdfer.synthetic import emotions, faces
from mmdfer.synthetic.small_clip.training import to_tensor
from mmdfer.synthetic.small_clip.training_faces import (
    TEST,
    Pose,
    draw_face,
    draw_pose,
    emotion_pose,
    resize,
    stream,
)


def render_held_out(seed: int, part: int, poses: Iterable[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """Render poses on identities that are not used in training.

    The frames are cropped as in the test pipeline of the benchmark.

    Args:
        seed: Seed of the training.
        part: A number for the random stream, which differs between measurements.
        poses: The N poses to render, each on an identity of its own.

    Returns:
        The frames (N, 64, 64, 3), RGB uint8, and their action units (N, 16).
    """
    drawn = [draw_face(stream(seed, TEST, part, i), pose) for i, pose in enumerate(poses)]
    views = np.stack([resize(face.image, 68)[2:66, 2:66] for face in drawn])
    return views, np.stack([face.aus for face in drawn])


@torch.inference_mode()
def encode_images(model: open_clip.CLIP, images: np.ndarray) -> np.ndarray:
    """Encode frames (N, 64, 64, 3) to vectors (N, D) of the image tower, without normalising."""
    return torch.cat([model.visual(to_tensor(part)) for part in np.array_split(images, 8)]).numpy()


@torch.inference_mode()
def zero_shot_accuracy(
    model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, seed: int, per_class: int = 100
) -> tuple[float, dict[str, float]]:
    """Measure the zero-shot accuracy on apex frames with the prompts 'an expression of {class}.'.

    Args:
        model: The small CLIP.
        tokenizer: The tokenizer of the small CLIP.
        seed: Seed of the training. The frames show other identities than the training.
        per_class: Number of frames of each class.

    Returns:
        The accuracy in percent over all classes, and the recall of each class in percent by name.
    """
    labels = np.repeat(np.arange(len(emotions.CLASSES)), per_class)
    rng = stream(seed, TEST, 0)
    poses = [emotion_pose(rng, int(label), float(rng.uniform(0.7, 1))) for label in labels]
    image = torch.from_numpy(encode_images(model, render_held_out(seed, 1, poses)[0]))
    prompts = [f'an expression of {name}.' for name in emotions.CLASSES]
    text = F.normalize(model.encode_text(tokenizer(prompts)), dim=-1)
    right = ((F.normalize(image, dim=-1) @ text.T).argmax(dim=-1).numpy() == labels) * 100.0
    recalls = {n: float(right[labels == i].mean()) for i, n in enumerate(emotions.CLASSES)}
    return float(right.mean()), recalls


def unit_r2(
    model: open_clip.CLIP, seed: int, n_fit: int = 3000, n_test: int = 1000
) -> tuple[float, dict[str, float]]:
    """Measure how well a ridge regression on the image vectors predicts the action units.

    The image vectors are normalised. The regression is fitted and tested on identities that are not
    used in the training of the CLIP.

    Args:
        model: The small CLIP.
        seed: Seed of the training.
        n_fit: Number of frames to fit the regression.
        n_test: Number of other frames to test the regression.

    Returns:
        R squared on the test frames as the mean over all action units, and for each action unit by
        name.
    """
    rng = stream(seed, TEST, 2)
    poses = [draw_pose(rng) for _ in range(n_fit + n_test)]
    images, aus = render_held_out(seed, 3, poses)
    vectors = encode_images(model, images)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ridge = RidgeCV(np.logspace(-4, 2, 7)).fit(vectors[:n_fit], aus[:n_fit])
    scores = r2_score(aus[n_fit:], ridge.predict(vectors[n_fit:]), multioutput='raw_values')
    return float(scores.mean()), dict(zip(faces.AUS, scores.tolist(), strict=True))

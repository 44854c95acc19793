"""Align-DFER as one would write it from the paper: what tools/benchmark.py measures ours against.

Each step the image tower encodes every frame and the text tower every sentence at CLIP's 77
positions. Only torch and open_clip; nothing of mmdfer is imported. What our config says where the
paper is silent (``configs/_base_/schedules/bap_100e.py``) is said here too, so that losses agree.

No straw man: what a stage freezes runs without gradient, and the image tower gets the batch that
is fastest on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip import CLIP
from torch import Tensor, nn

STAGES = ('text', 'video', 'joint')


class Encoder(nn.Module):
    """A dynamic encoder: a pre-norm transformer over (N, T, D), whose mean is taken, (N, D)."""

    def __init__(self, dims: int, depth: int, length: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            dims, dims // 64, 4 * dims, 0.0, 'gelu', batch_first=True, norm_first=True
        )
        self.position = nn.Parameter(0.02 * torch.randn(length, dims))
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, D)."""
        return (self.transformer(x + self.position) - self.position).mean(1)


class PlainAlignDFER(nn.Module):
    """The model of the paper's Sec. 3, over a CLIP of open_clip.

    Args:
        clip: open_clip's model.
        fixed: The ids of the start token, the full stop and the end token.
        num_classes: C.
        num_sentences: S.
        num_tokens: T.
        num_frames: Frames of a clip.
        image_batch: Images that the image tower takes at a time; see :func:`best_image_batch`.
    """

    def __init__(
        self,
        clip: CLIP,
        fixed: Sequence[int],
        num_classes: int = 7,
        num_sentences: int = 16,
        num_tokens: int = 64,
        num_frames: int = 16,
        image_batch: int = 64,
    ) -> None:
        super().__init__()
        self.clip, self.image_batch = clip.requires_grad_(False).eval(), image_batch
        width, dims = clip.token_embedding.embedding_dim, clip.text_projection.shape[1]
        self.tokens = nn.Parameter(
            0.02 * torch.randn(num_classes, num_sentences, num_tokens, width)
        )
        self.register_buffer('fixed', torch.tensor(fixed))
        self.text_encoder = Encoder(dims, 2, num_sentences)
        self.image_encoder = Encoder(dims, 4, num_frames)
        self.joint_encoder = Encoder(dims, 4, num_frames)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """(B, T, 3, H, W) -> (B, T, D)."""
        images = frames.flatten(0, 1).split(self.image_batch)
        with torch.no_grad():
            return torch.cat([self.clip.encode_image(i) for i in images]).unflatten(
                0, frames.shape[:2]
            )

    def encode_sentences(self) -> Tensor:
        """The prompts, padded to CLIP's context as its tokenizer pads them, -> (C, S, D)."""
        clip, (classes, sentences, tokens, width) = self.clip, self.tokens.shape
        start, stop, end = (
            e.expand(classes, sentences, 1, width) for e in clip.token_embedding(self.fixed)
        )
        pad = clip.token_embedding(torch.zeros_like(self.fixed[0]))
        pad = pad.expand(classes, sentences, clip.context_length - tokens - 3, width)
        x = torch.cat([start, self.tokens, stop, end, pad], 2).flatten(0, 1)  # (C * S, 77, W)
        x = clip.transformer(x + clip.positional_embedding, attn_mask=clip.attn_mask)
        x = clip.ln_final(x)[:, tokens + 2] @ clip.text_projection  # at the end token
        return x.unflatten(0, (classes, sentences))

    def forward(self, frames: Tensor, stage: str, vectors: Tensor | None = None) -> Tensor:
        """Logits of a batch.

        Args:
            frames: (B, T, 3, H, W), normalised.
            stage: text, video or joint.
            vectors: (B, T, D), where the image tower's time is measured apart.

        Returns:
            (B, C).
        """
        vectors = F.normalize(self.encode_frames(frames) if vectors is None else vectors, dim=-1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and stage != 'video'):
            sentences = F.normalize(self.encode_sentences(), dim=-1)
            encoder = self.joint_encoder if stage == 'joint' else self.text_encoder
            classes = F.normalize(encoder(sentences), dim=-1)
        if stage == 'text':
            video = vectors.mean(1)
        else:
            video = (self.joint_encoder if stage == 'joint' else self.image_encoder)(vectors)
        return self.clip.logit_scale.exp() * F.normalize(video, dim=-1) @ classes.T

    def trained(self, stage: str) -> list[nn.Parameter]:
        """What a stage trains."""
        parts = dict(text=self.text_encoder, video=self.image_encoder, joint=self.joint_encoder)
        tokens = [] if stage == 'video' else [self.tokens]
        return [*tokens, *parts[stage].parameters()]


def optimizer(model: PlainAlignDFER, stage: str) -> torch.optim.Optimizer:
    """SGD with momentum over what the stage trains."""
    return torch.optim.SGD(model.trained(stage), lr=1e-2, momentum=0.9, weight_decay=1e-4)


def train_step(
    model: PlainAlignDFER,
    sgd: torch.optim.Optimizer,
    frames: Tensor,
    labels: Tensor,
    stage: str,
    vectors: Tensor | None = None,
) -> Tensor:
    """One optimizer step; the arguments are those of the model's forward. Returns the loss."""
    loss = F.cross_entropy(model(frames, stage, vectors), labels)
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    return loss.detach()


@torch.no_grad()
def best_image_batch(clip: CLIP, images: Tensor, sizes: Sequence[int] = (32, 64, 128)) -> int:
    """Of some sizes the one at which the image tower takes least time for an image.

    Args:
        clip: open_clip's model.
        images: (N, 3, H, W), N at least the largest of the sizes.
        sizes: To choose from.
    """
    times = {}
    clip.encode_image(images[: min(sizes)])  # the first pass allocates
    for size in sizes:
        start = time.perf_counter()
        for batch in images[: max(sizes)].split(size):
            out = clip.encode_image(batch)
        float(out.sum())  # waits for a GPU
        times[size] = time.perf_counter() - start
    return min(times, key=times.get)

"""Define Align-DFER in plain torch over open_clip, for the two baselines of tools/benchmark.py.

The baselines (``naive.py`` and ``strong.py``) import only torch, open_clip and common packages, and
nothing of mmdfer. Where the paper is silent they use the settings of mmdfer's config
(``configs/_base_/schedules/bap_100e.py``), so that the losses of all implementations agree.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import open_clip
import torch
import torch.nn.functional as F
from open_clip import CLIP
from torch import Tensor, nn

STAGES = ('text', 'video', 'joint')
ARCHITECTURE = 'ViT-B-32-quickgelu'
FRAMES = 16  # of a clip


class Encoder(nn.Module):
    """Encode a sequence of vectors to one vector with a pre-norm transformer and a mean.

    Args:
        dims: The width D of the vectors.
        depth: The number of layers.
        length: The number of learned positions, which is the length T of the sequences.
    """

    def __init__(self, dims: int, depth: int, length: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            dims, dims // 64, 4 * dims, 0.0, 'gelu', batch_first=True, norm_first=True
        )
        self.position = nn.Parameter(0.02 * torch.randn(length, dims))
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Encode (N, T, D) to (N, D)."""
        return (self.transformer(x + self.position) - self.position).mean(1)


class PlainAlignDFER(nn.Module):
    """Compute the model of the paper's Sec. 3 with the modules of torch and open_clip.

    Args:
        clip: The CLIP model of open_clip. It is frozen here.
        fixed: The ids of the start token, the full stop and the end token.
        num_classes: The number of classes, C.
        num_sentences: The number of sentences of each class, S.
        num_tokens: The number of learned tokens of each sentence, T.
        num_frames: The number of frames of a clip.
    """

    fixed: Tensor

    def __init__(
        self,
        clip: CLIP,
        fixed: Sequence[int],
        num_classes: int = 7,
        num_sentences: int = 16,
        num_tokens: int = 64,
        num_frames: int = FRAMES,
    ) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(False).eval()
        width, dims = clip.token_embedding.embedding_dim, clip.text_projection.shape[1]
        self.tokens = nn.Parameter(
            0.02 * torch.randn(num_classes, num_sentences, num_tokens, width)
        )
        self.register_buffer('fixed', torch.tensor(fixed))
        self.text_encoder = Encoder(dims, 2, num_sentences)
        self.image_encoder = Encoder(dims, 4, num_frames)
        self.joint_encoder = Encoder(dims, 4, num_frames)

    @property
    def prompt_length(self) -> int:
        """Return the number of positions of a prompt: the learned tokens and three fixed ones."""
        return self.tokens.shape[2] + 3

    def encode_sentences(self, positions: int) -> Tensor:
        """Encode the prompts to sentence vectors (C, S, D).

        Args:
            positions: How many positions the text tower computes, at least ``prompt_length``.
                CLIP's tokenizer pads to its whole context. The padding follows the end token, so
                the causal mask keeps it from changing the result.
        """
        clip, (classes, sentences, tokens, width) = self.clip, self.tokens.shape
        start, stop, end = (
            e.expand(classes, sentences, 1, width) for e in clip.token_embedding(self.fixed)
        )
        pad = clip.token_embedding(torch.zeros_like(self.fixed[0]))
        pad = pad.expand(classes, sentences, positions - self.prompt_length, width)
        x = torch.cat([start, self.tokens, stop, end, pad], 2).flatten(0, 1)  # (C * S, L, W)
        mask = clip.attn_mask[:positions, :positions]
        x = clip.transformer(x + clip.positional_embedding[:positions], attn_mask=mask)
        x = clip.ln_final(x)[:, tokens + 2] @ clip.text_projection  # at the end token
        return x.unflatten(0, (classes, sentences))

    def encode_classes(self, stage: str, positions: int) -> Tensor:
        """Encode the prompts to unit class vectors (C, D); arguments as in ``encode_sentences``."""
        sentences = F.normalize(self.encode_sentences(positions), dim=-1)
        encoder = self.joint_encoder if stage == 'joint' else self.text_encoder
        return F.normalize(encoder(sentences), dim=-1)

    def forward(self, vectors: Tensor, classes: Tensor, stage: str) -> Tensor:
        """Compute the logits (B, C) of clips.

        Args:
            vectors: Frame vectors (B, T, D).
            classes: Unit class vectors (C, D).
            stage: The stage of training: text, video or joint.
        """
        vectors = F.normalize(vectors, dim=-1)
        if stage == 'text':
            video = vectors.mean(1)
        else:
            video = (self.joint_encoder if stage == 'joint' else self.image_encoder)(vectors)
        return self.clip.logit_scale.exp() * F.normalize(video, dim=-1) @ classes.T

    def trained(self, stage: str) -> list[nn.Parameter]:
        """Return the parameters that a stage trains."""
        parts = dict(text=self.text_encoder, video=self.image_encoder, joint=self.joint_encoder)
        tokens = [] if stage == 'video' else [self.tokens]
        return [*tokens, *parts[stage].parameters()]


class Optimizer:
    """Update what a stage trains by SGD with momentum, with gradients clipped to norm 1.

    Args:
        model: The model.
        stage: The stage of training.
    """

    def __init__(self, model: PlainAlignDFER, stage: str) -> None:
        self.trained = model.trained(stage)
        self.sgd = torch.optim.SGD(
            self.trained, lr=1e-2, momentum=0.9, weight_decay=1e-4, fused=True
        )

    def update(self, loss: Tensor) -> Tensor:
        """Take one step down the gradient of a loss, and return the loss without its graph."""
        self.sgd.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.sgd.step()
        return loss.detach()


def build_model(num_classes: int, num_sentences: int, num_tokens: int) -> PlainAlignDFER:
    """Build the model over ViT-B/32 with random weights, as the scripts of the baselines do."""
    clip = open_clip.create_model(ARCHITECTURE)
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE)
    fixed = tokenizer.sot_token_id, *tokenizer.encode('.'), tokenizer.eot_token_id
    return PlainAlignDFER(clip, fixed, num_classes, num_sentences, num_tokens)


def encode_images(clip: CLIP, images: Tensor, batch: int) -> Tensor:
    """Encode images (N, 3, H, W) to vectors (N, D) by open_clip's encode_image.

    Args:
        clip: The CLIP model of open_clip.
        images: Normalised images.
        batch: How many images open_clip encodes at a time; see :func:`best_image_batch`.
    """
    with torch.inference_mode():
        return torch.cat([clip.encode_image(part) for part in images.split(batch)])


def best_image_batch(clip: CLIP, images: Tensor, sizes: Sequence[int]) -> int:
    """Return the batch size at which open_clip's encode_image takes the least time for an image.

    Args:
        clip: The CLIP model of open_clip.
        images: (N, 3, H, W), where N is a multiple of each size.
        sizes: The sizes to choose from.
    """
    times = {}
    encode_images(clip, images[: min(sizes)], min(sizes))  # the first pass allocates memory
    for size in sizes:
        start = time.perf_counter()
        float(encode_images(clip, images, size).sum())  # reading a value waits for the GPU
        times[size] = time.perf_counter() - start
    return min(sizes, key=times.__getitem__)

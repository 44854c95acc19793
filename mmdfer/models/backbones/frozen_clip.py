"""The backbone: open_clip's image and text towers, frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.clip_weights import (
    build_clip,
    digest,
    read_normalisation,
    suitable_config,
)
from mmdfer.models.backbones.fast_towers import ImageTower, TextTower
from mmdfer.models.backbones.frame_encoder import FrameEncoder
from mmdfer.models.json_tensor import from_tensor, to_tensor
from mmdfer.models.parameter_patterns import is_named
from mmdfer.synthetic import small_clip

IMAGES_PER_PASS = 64  # bounds the memory of one pass through open_clip's image tower


@MODELS.register_module()
class FrozenCLIP(FrameEncoder):
    """CLIP's two towers behind one backbone; only what ``trains`` names ever changes.

    The frozen weights are not written to checkpoints. In their place stands ``identity``, the
    architecture and a digest of the weights, and a checkpoint made over another CLIP is refused.

    Args:
        arch: An architecture of open_clip, or ``'synth-clip'``, the small one of this package.
            OpenAI's weights need the ``-quickgelu`` architectures.
        weights: A tag of open_clip (``'openai'``, ``'laion2b_s34b_b79k'``), the path of a file
            (safetensors, or a state dict that ``torch.load(weights_only=True)`` reads), or
            ``'random'`` (seeded; for tests and speed). By default the weights that
            this package ships, which exist for ``'synth-clip'`` alone.
        trains: Patterns of the names of CLIP's parameters, by the rule of ``is_named``: what some
            stage may train, and hence what is optimised and saved. ``visual`` is the image tower.
        activations_gb: How much the text tower keeps for the backward pass, about, in GB. Passes of
            sentences beyond that are computed again there, which takes half as long again. The
            paper's 112 sentences want 1.7 over ViT-B/32 in float32; by default training fits in 4.

    Attributes:
        embed_dims: D, CLIP's joint width.
        text_width: W, the text tower's width.
        context_length: The text tower's number of positions.
        image_size: The image tower's input, in pixels.
        normalisation: The mean and std that the weights were trained with, which
            CLIPDataPreprocessor takes over in whichever recognizer they are built.

    Raises:
        DFERError: The architecture is unknown or its text tower does not fit, the weights are
            missing, damaged, of another architecture or activation, or a regex matches nothing.
    """

    def __init__(
        self,
        arch: str,
        weights: str | None = None,
        trains: Sequence[str] = (),
        activations_gb: float = 1.3,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch, self.activations_gb = arch, activations_gb
        config = suitable_config(arch)
        self.clip = build_clip(arch, config, weights)
        self.normalisation = read_normalisation(arch, weights)
        self.tokenizer = (
            small_clip.tokenizer() if arch == small_clip.ARCH else open_clip.get_tokenizer(arch)
        )
        text = self._text
        self.embed_dims: int = config['embed_dim']
        self.text_width: int = text.token_embedding.embedding_dim
        self.context_length: int = text.positional_embedding.shape[0]
        image_size = self.clip.visual.image_size
        self.image_size: int = image_size[0] if isinstance(image_size, tuple) else image_size
        self.digest = digest(self.clip)
        self._image_tower, self._text_tower = ImageTower(self.clip.visual), TextTower(text)
        self._freeze(trains)
        self.register_state_dict_post_hook(FrozenCLIP._leave_out_frozen)
        self.register_load_state_dict_pre_hook(FrozenCLIP._put_back_frozen)
        self.eval()

    # ---------------------------------------------------------------- images

    def forward(self, x: Tensor) -> Tensor:
        """Encode frames.

        Args:
            x: Clips of normalised RGB frames (N, 3, T, H, W), or the images (N, 3, H, W) of
                Recognizer2D.

        Returns:
            (N, T, D); for images (N, D, 1, 1), a feature map of one cell.

        Raises:
            DFERError: A shape other than these, or frames that are not of the tower's own size.
        """
        size = (self.image_size, self.image_size)
        if x.ndim not in (4, 5) or x.shape[1] != 3 or tuple(x.shape[-2:]) != size:
            raise DFERError(
                f'FrozenCLIP({self.arch!r}): input of shape {tuple(x.shape)}; it takes '
                f'(N, 3, T, {self.image_size}, {self.image_size}) or images '
                f'(N, 3, {self.image_size}, {self.image_size}): resize in the pipeline, and format '
                'as NCTHW or NCHW'
            )
        if x.ndim == 4:
            return self.encode_images(x)[:, :, None, None]  # (N, D, 1, 1)
        n, _, t = x.shape[:3]
        images = x.transpose(1, 2).flatten(0, 1)  # (N, 3, T, H, W) -> (N*T, 3, H, W)
        return self.encode_images(images).view(n, t, -1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Encodes images (N, 3, H, W) to (N, D); without gradient where the tower is frozen."""
        if self._image_tower.applies:
            return self._image_tower(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_frames):
            # In this layout a ResNet's convolutions take half the time on the CPU.
            passes = images.contiguous(memory_format=torch.channels_last).split(IMAGES_PER_PASS)
            return torch.cat([self.clip.encode_image(part) for part in passes])

    # ------------------------------------------------------------------ text

    def encode_prompts(self, embeddings: Tensor, end: int | Tensor) -> Tensor:
        """Encodes prompts given as token embeddings; gradients reach the embeddings.

        The tower is causal: what stands after the end token never matters and is cut off.

        Args:
            embeddings: (..., L, W), position embeddings not yet added, L up to the context.
            end: The position of the end token: one for all prompts, or a tensor (...).

        Returns:
            (..., D).

        Raises:
            DFERError: More positions than the tower's context has.
        """
        *shape, length, width = embeddings.shape
        if length > self.context_length:
            raise DFERError(
                f'{length} positions do not fit the text context of {self.arch!r}, which has '
                f'{self.context_length}: take at most {self.context_length - 3} learnable tokens'
            )
        text = self._text
        ends = torch.as_tensor(end, device=embeddings.device).expand(shape).reshape(-1)
        length = int(ends.max()) + 1
        x = embeddings.reshape(-1, embeddings.shape[-2], width)[:, :length]  # (P, L, W)
        x = x + text.positional_embedding[:length]
        if self._text_tower.applies:
            return self._text_tower(x, ends, self.activations_gb).reshape(*shape, -1)
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
        x = x[torch.arange(len(x), device=x.device), ends]  # (P, W), at each end token
        projection = text.text_projection
        if isinstance(projection, nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        return x.reshape(*shape, -1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Looks up token ids (...) as embeddings (..., W)."""
        return self._text.token_embedding(tokens)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Encodes sentences to (N, D), as open_clip's ``encode_text`` does."""
        tokens = self.tokenizer(list(texts)).to(self.clip.logit_scale.device)  # (N, context)
        return self.encode_prompts(self.embed(tokens), (tokens == self.end_id).int().argmax(-1))

    @property
    def start_id(self) -> int:
        """The id of the start token."""
        return self.tokenizer.sot_token_id

    @property
    def end_id(self) -> int:
        """The id of the end token."""
        return self.tokenizer.eot_token_id

    @property
    def stop_id(self) -> int:
        """The id of the full stop."""
        (stop,) = self.tokenizer.encode('.')
        return stop

    @property
    def logit_scale(self) -> float:
        """CLIP's own logit scale, 1 / temperature (100 for OpenAI's)."""
        return float(self.clip.logit_scale.exp())

    @property
    def _text(self) -> open_clip.CLIP:
        return getattr(self.clip, 'text', self.clip)  # a tower of its own, or CLIP itself

    # ---------------------------------------------------------------- frozen

    def _freeze(self, trains: Sequence[str]) -> None:
        names = [name for name, _ in self.clip.named_parameters()]
        for pattern in trains:
            if not any(is_named(name, [pattern]) for name in names):
                raise DFERError(
                    f'FrozenCLIP.trains: {pattern!r} matches no parameter of {self.arch!r}, '
                    f'whose names look like {names[0]!r} and {names[-1]!r}'
                )
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(is_named(name, trains))
        self._trained = {n for n, p in self.clip.named_parameters() if p.requires_grad}

    def train(self, mode: bool = True) -> FrozenCLIP:
        """Stay in eval, whatever the model around it does."""
        for tower in (self._image_tower, self._text_tower):
            tower.set_mode(mode)
        return super().train(False)

    def init_weights(self) -> None:
        """Leaves CLIP as it was loaded."""

    @property
    def identity(self) -> dict[str, str]:
        """What tells this CLIP from another: the architecture and the weights' SHA-256."""
        return dict(arch=self.arch, sha256=self.digest)

    @property
    def trains_frames(self) -> bool:
        """Return whether training changes the image tower."""
        return any(parameter.requires_grad for parameter in self.clip.visual.parameters())

    def _leave_out_frozen(self, state: dict[str, Tensor], prefix: str, _: Any) -> None:
        """State-dict hook: keeps the trained tensors, and the identity in place of the rest."""
        for key in [k for k in state if k.startswith(f'{prefix}clip.')]:
            if key.removeprefix(f'{prefix}clip.') not in self._trained:
                del state[key]
        state[f'{prefix}identity'] = to_tensor(self.identity)

    def _put_back_frozen(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Load hook: refuses another CLIP, and fills in the frozen tensors as they are."""
        written = state.pop(f'{prefix}identity', None)
        saved = self.identity if written is None else from_tensor(written)
        if saved != self.identity:
            raise DFERError(
                f'the checkpoint was trained over CLIP {saved["arch"]!r} (weights '
                f'{saved["sha256"][:12]}), the model has {self.arch!r} (weights '
                f'{self.digest[:12]}): set model.backbone.arch and .weights to those of training'
            )
        for name, tensor in self.clip.state_dict(keep_vars=True).items():
            if name not in self._trained:
                state[f'{prefix}clip.{name}'] = tensor.detach()

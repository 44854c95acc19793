"""Provide the backbone of the CLIP methods: open_clip's image and text towers, frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.adapters.frame_mixing_adapter import FrameMixingAdapter
from mmdfer.models.adapters.tower_adapter import TowerAdapter
from mmdfer.models.backbones.adapted_tower import Option, build_adapter
from mmdfer.models.backbones.clip_weights import (
    build_clip,
    hash_weights,
    load_clip_config,
    read_normalisation,
)
from mmdfer.models.backbones.fast_towers import ImageTower, TextTower
from mmdfer.models.backbones.frame_encoder import FrameEncoder
from mmdfer.models.json_tensor import from_tensor, to_tensor
from mmdfer.models.parameter_patterns import is_named
from mmdfer.synthetic import small_clip

# How torch names a weight to which LoRA adds an update.
_PARAMETRIZED = re.compile(r'parametrizations\.(\w+)\.original')

IMAGES_PER_PASS = 64  # limits the memory of one pass through open_clip's own image tower


@MODELS.register_module()
class FrozenCLIP(FrameEncoder):
    """Encode frames and prompts with CLIP, frozen except for ``trains`` and for its adapters.

    The model is open_clip's implementation of CLIP (Radford et al., "Learning Transferable Visual
    Models From Natural Language Supervision", 2021) with both of its towers.

    The frozen weights are not written to checkpoints. A checkpoint contains ``identity`` instead,
    which is the architecture and a digest of the weights. A checkpoint that was trained with other
    CLIP weights, or with other adapters, is refused when it is loaded.

    Args:
        arch: Name of an open_clip architecture, or ``'synth-clip'`` or ``'synth-clip-vit'`` for
            one of the small CLIP models of this package. OpenAI's weights need an architecture that
            ends in ``-quickgelu``.
        weights: Tag of open_clip (``'openai'``, ``'laion2b_s34b_b79k'``), path of a file
            (safetensors, or a state dict that ``torch.load(weights_only=True)`` reads), or
            ``'random'`` (seeded; for tests and speed measurements). The default ``None`` selects
            the weights that this package ships, which exist for its small CLIP models only.
        trains: Patterns for the names of the CLIP parameters that some stage of training may train,
            as defined by ``is_named``. Only these parameters receive gradients, are optimised and
            are saved. The pattern ``visual`` matches the image tower. By default all are frozen.
        activations_gb: Approximate memory, in GB, for the activations that the text tower keeps for
            the backward pass. The activations of further sentences are recomputed in the backward
            pass, which takes half as long again. Align-DFER's 112 sentences need 1.7 GB with
            ViT-B/32 in float32. With the default of 1.3, training fits in 4 GB. This has no effect
            on a text tower that is trained or has an adapter.
        adapter: Config of an adapter of the image tower, of type AIMAdapter, FRUAdapter or LoRA.
            Its parameters are trained and saved. In the stages of BAPHook, the pattern
            ``backbone.adapter`` matches them. By default there is no adapter.
        text_adapter: Config of an adapter of the text tower, of type LoRA. The pattern
            ``backbone.text_adapter`` matches its parameters. By default there is no adapter.
        checkpointing: Whether towers that are trained or have an adapter keep only the inputs of
            their blocks for the backward pass, and compute the rest again (activation
            checkpointing). It saves memory and changes no bit of the gradients.
        init_cfg: Passed to mmengine's BaseModule.

    Attributes:
        embed_dims: D, the width of the joint embedding space of CLIP.
        text_width: W, the width of the token embeddings of the text tower.
        context_length: Number of positions of the text tower.
        image_size: Height and width of the images that the image tower reads, in pixels.
        normalisation: Pixel mean and standard deviation with which the weights were trained.
            CLIPDataPreprocessor uses these values in every recognizer that has this backbone.

    Raises:
        DFERError: If the architecture is unknown or its text tower does not support learnable
            tokens; if the weights are missing, damaged, or belong to another architecture or
            activation function; if a pattern of ``trains`` matches no parameter; or if an adapter
            or ``checkpointing`` does not fit the towers.
    """

    def __init__(
        self,
        arch: str,
        weights: str | None = None,
        trains: Sequence[str] = (),
        activations_gb: float = 1.3,
        adapter: Mapping[str, Any] | None = None,
        text_adapter: Mapping[str, Any] | None = None,
        checkpointing: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch, self.activations_gb = arch, activations_gb
        config = load_clip_config(arch)
        self.clip = build_clip(arch, config, weights)
        self.normalisation = read_normalisation(arch, weights)
        self.tokenizer = (
            small_clip.tokenizer() if arch in small_clip.ARCHS else open_clip.get_tokenizer(arch)
        )
        text = self._text
        self.embed_dims: int = config['embed_dim']
        self.text_width: int = text.token_embedding.embedding_dim
        self.context_length: int = text.positional_embedding.shape[0]
        image_size = self.clip.visual.image_size
        self.image_size: int = image_size[0] if isinstance(image_size, tuple) else image_size
        self.digest = hash_weights(self.clip)
        self._freeze(trains)
        visual = self.clip.visual
        self.adapter = self._build_adapter('adapter', adapter, visual)
        self.text_adapter = self._build_adapter('text_adapter', text_adapter, text)
        # LoRA renames the weights that it changes, so the names are listed after it is attached.
        self._trained = {n for n, p in self.clip.named_parameters() if p.requires_grad}
        self._image_tower = ImageTower(visual, adapted=self.adapter is not None)
        self._text_tower = TextTower(text)
        if checkpointing:
            self._keep_inputs_only()
        self.register_state_dict_post_hook(FrozenCLIP._leave_out_frozen)
        self.register_load_state_dict_pre_hook(FrozenCLIP._put_back_frozen)
        self.eval()

    # ---------------------------------------------------------------- images

    def forward(self, x: Tensor) -> Tensor:
        """Encode frames with the image tower.

        Args:
            x: Clips of normalised RGB frames (N, 3, T, H, W), or images (N, 3, H, W) as
                Recognizer2D passes them.

        Returns:
            Frame vectors (N, T, D) for clips. For images, a feature map (N, D, 1, 1) with one cell.

        Raises:
            DFERError: If the input has another shape, or if H and W are not ``image_size``; if an
                adapter mixes frames and the input is images or clips of another length.
        """
        size = (self.image_size, self.image_size)
        if x.ndim not in (4, 5) or x.shape[1] != 3 or tuple(x.shape[-2:]) != size:
            raise DFERError(
                f'FrozenCLIP({self.arch!r}): input of shape {tuple(x.shape)} must be clips '
                f'(N, 3, T, {self.image_size}, {self.image_size}) or images '
                f'(N, 3, {self.image_size}, {self.image_size}); resize the frames in the pipeline '
                'and set the input_format of FormatShape to NCTHW or NCHW'
            )
        if isinstance(self.adapter, FrameMixingAdapter):
            self.adapter.check_input(x)
        if x.ndim == 4:
            return self.encode_images(x)[:, :, None, None]  # (N, D, 1, 1)
        n, _, t = x.shape[:3]
        images = x.transpose(1, 2).flatten(0, 1)  # (N, 3, T, H, W) -> (N*T, 3, H, W)
        return self.encode_images(images).view(n, t, -1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images to vectors, without gradients if the image tower is frozen.

        Args:
            images: Normalised RGB images (N, 3, H, W). If the adapter mixes frames, they are the
                frames of clips, one clip after another.

        Returns:
            Vectors (N, D).
        """
        if self._image_tower.applies:
            return self._image_tower(images)
        encode, count = self.clip.encode_image, IMAGES_PER_PASS
        if isinstance(self.adapter, FrameMixingAdapter):
            encode, frames = partial(self.adapter.encode, self.clip.visual), self.adapter.num_frames
            count = max(1, count // frames) * frames  # whole clips
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_frames):
            # The convolutions of a ResNet take half the time on the CPU in this memory layout.
            passes = images.contiguous(memory_format=torch.channels_last).split(count)
            return torch.cat([encode(part) for part in passes])

    # ------------------------------------------------------------------ text

    def encode_prompts(self, embeddings: Tensor, end: int | Tensor) -> Tensor:
        """Encode prompts that are given as token embeddings; gradients flow to the embeddings.

        The text tower is causal, so positions after the end token do not affect the result. They
        are cut off to save time.

        Args:
            embeddings: Token embeddings (..., L, W) without position embeddings. L is at most
                ``context_length``.
            end: Position of the end token, as one integer for all prompts or as a tensor of shape
                (...).

        Returns:
            Vectors of the prompts (..., D).

        Raises:
            DFERError: If L exceeds ``context_length``.
        """
        *shape, length, width = embeddings.shape
        if length > self.context_length:
            raise DFERError(
                f'a prompt of {length} positions exceeds the {self.context_length} positions of '
                f'the text tower of {self.arch!r}: use at most {self.context_length - 3} learnable '
                'tokens'
            )
        text = self._text
        ends = torch.as_tensor(end, device=embeddings.device).expand(shape).reshape(-1)
        length = int(ends.max()) + 1
        x = embeddings.reshape(-1, embeddings.shape[-2], width)[:, :length]  # (P, L, W)
        x = x + text.positional_embedding[:length]
        if self._text_tower.applies:
            return self._text_tower(x, ends, self.activations_gb).reshape(*shape, -1)
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
        x = x[torch.arange(len(x), device=x.device), ends]  # (P, W), at the end token of each
        projection = text.text_projection
        if isinstance(projection, nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        return x.reshape(*shape, -1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Look up the embeddings (..., W) of token ids (...)."""
        return self._text.token_embedding(tokens)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Encode N sentences to vectors (N, D) as open_clip's ``encode_text`` does."""
        tokens = self.tokenizer(list(texts)).to(self.clip.logit_scale.device)  # (N, context)
        return self.encode_prompts(self.embed(tokens), (tokens == self.end_id).int().argmax(-1))

    @property
    def start_id(self) -> int:
        """Return the id of the token that starts each prompt."""
        return self.tokenizer.sot_token_id

    @property
    def end_id(self) -> int:
        """Return the id of the token that ends each prompt."""
        return self.tokenizer.eot_token_id

    @property
    def stop_id(self) -> int:
        """Return the id of the full-stop token."""
        (stop,) = self.tokenizer.encode('.')
        return stop

    @property
    def logit_scale(self) -> float:
        """Return the logit scale of CLIP, which is 1 / temperature (100 for OpenAI's weights)."""
        return float(self.clip.logit_scale.exp())

    @property
    def _text(self) -> open_clip.CLIP:
        """Return the module with the text tower's parts, which may be the CLIP model itself."""
        return getattr(self.clip, 'text', self.clip)

    # ---------------------------------------------------------------- frozen

    def _freeze(self, trains: Sequence[str]) -> None:
        """Freeze all parameters of CLIP that no pattern of ``trains`` matches."""
        names = [name for name, _ in self.clip.named_parameters()]
        for pattern in trains:
            if not any(is_named(name, [pattern]) for name in names):
                raise DFERError(
                    f'FrozenCLIP.trains: {pattern!r} matches no parameter of {self.arch!r}; '
                    f'examples of its parameter names are {names[0]!r} and {names[-1]!r}'
                )
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(is_named(name, trains))

    def _build_adapter(
        self, option: Option, config: Mapping[str, Any] | None, tower: nn.Module
    ) -> TowerAdapter | None:
        """Build the adapter of a tower, if there is a config, and attach it."""
        return None if config is None else build_adapter(self.arch, option, config, tower)

    def _keep_inputs_only(self) -> None:
        """Switch on open_clip's activation checkpointing, which FrameMixingAdapter reads too."""
        if not isinstance(self.clip.visual, VisionTransformer):
            raise DFERError(
                f'FrozenCLIP: checkpointing=True does not work with the image tower of '
                f'{self.arch!r} ({type(self.clip.visual).__name__}): set checkpointing=False, or '
                'set arch to a ViT'
            )
        self.clip.set_grad_checkpointing(True)

    def train(self, mode: bool = True) -> FrozenCLIP:
        """Keep CLIP in eval mode, even if the surrounding model is switched to training mode."""
        for tower in (self._image_tower, self._text_tower):
            tower.set_mode(mode)
        return super().train(False)

    def init_weights(self) -> None:
        """Keep the weights that were loaded when this module was built."""

    @property
    def identity(self) -> dict[str, str]:
        """Return the architecture and the SHA-256 of the weights, which identify this CLIP."""
        return dict(arch=self.arch, sha256=self.digest)

    @property
    def _adapters(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the adapters, keyed by the argument of this class."""
        adapters = dict(adapter=self.adapter, text_adapter=self.text_adapter)
        return {key: adapter.settings for key, adapter in adapters.items() if adapter is not None}

    @property
    def trains_frames(self) -> bool:
        """Return whether the image tower has an adapter, or a parameter that is trained now.

        With an adapter this is always true, also in a stage of training that freezes the adapter.
        """
        trained = any(parameter.requires_grad for parameter in self.clip.visual.parameters())
        return trained or self.adapter is not None

    @property
    def mixes_frames(self) -> bool:
        """Return whether the adapter of the image tower mixes the frames of a clip."""
        return isinstance(self.adapter, FrameMixingAdapter)

    @property
    def trains_texts(self) -> bool:
        """Return whether the text tower has an adapter, or a parameter that some stage trains."""
        others = ('visual.', 'logit_scale')
        return self.text_adapter is not None or any(
            not name.startswith(others) for name in self._trained
        )

    def text_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the text side that can change in training.

        These are the parameters of the text tower that are trained now, and those of its adapter.
        """
        named = self.clip.named_parameters()
        trained = [p for n, p in named if p.requires_grad and not n.startswith('visual.')]
        return trained + ([] if self.text_adapter is None else list(self.text_adapter.parameters()))

    def _leave_out_frozen(self, state: dict[str, Tensor], prefix: str, _: Any) -> None:
        """Replace the frozen tensors of a saved state dict by the identity of the CLIP weights.

        This is a state-dict hook. Only trained tensors of CLIP remain in the state dict.
        """
        for key in [k for k in state if k.startswith(f'{prefix}clip.')]:
            if key.removeprefix(f'{prefix}clip.') not in self._trained:
                del state[key]
        state[f'{prefix}identity'] = to_tensor(self.identity | self._adapters)

    def _put_back_frozen(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Refuse a state dict of another CLIP or adapter, and add the frozen tensors.

        This is a hook that runs before a state dict is loaded.
        """
        written = state.pop(f'{prefix}identity', None)
        saved: dict[str, Any] = self.identity if written is None else from_tensor(written)
        if any(saved[key] != value for key, value in self.identity.items()):
            raise DFERError(
                f'the checkpoint was trained with CLIP {saved["arch"]!r} (weights '
                f'{saved["sha256"][:12]}), but the model has {self.arch!r} (weights '
                f'{self.digest[:12]}): set model.backbone.arch and model.backbone.weights to the '
                'values used in training'
            )
        for option in ('adapter', 'text_adapter'):
            self._check_adapter(state, prefix, option, saved.get(option))
        for name, tensor in self.clip.state_dict(keep_vars=True).items():
            key = f'{prefix}clip.{name}'
            if name not in self._trained:
                state[key] = tensor.detach()
            elif (plain := _PARAMETRIZED.sub(r'\1', key)) in state:
                state[key] = state.pop(plain)  # trained without LoRA, which renames the weight

    def _check_adapter(
        self, state: dict[str, Tensor], prefix: str, option: str, settings: dict | None
    ) -> None:
        """Refuse a state dict with the tensors of an adapter that this model does not have.

        A state dict without such tensors is accepted, so that an adapter can start to train from a
        checkpoint that was trained without it.

        Args:
            state: The state dict.
            prefix: Prefix of the keys of this module.
            option: ``'adapter'`` or ``'text_adapter'``.
            settings: ``TowerAdapter.settings`` of the saved adapter, if they are known.
        """
        adapter, begin = getattr(self, option), f'{prefix}{option}.'
        saved = {k: tuple(v.shape) for k, v in state.items() if k.startswith(begin)}
        own = {} if adapter is None else adapter.state_dict(prefix=begin)
        differs = saved != {key: tuple(tensor.shape) for key, tensor in own.items()}
        if saved and (differs or settings not in (None, self._adapters.get(option))):
            raise DFERError(
                f'the checkpoint was trained with another {option} of CLIP than the model has '
                f'({"none" if adapter is None else type(adapter).__name__}): set model.backbone.'
                f'{option} to the config that was used in training'
            )

"""Make tiny models of transformers with random weights, in the form in which they are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ['[PAD]', '[UNK]', '<s>', '</s>', 'brows', 'eyes', 'lips', 'jaw', 'rise', 'drop', 'then']
SIDE, PATCH, WIDTH = 32, 16, 16
TEMPLATE = (
    '{% for message in messages %}{% for part in message.content %}'
    "{% if part.type == 'image' %}<image>{% elif part.type == 'video' %}<video>"
    '{% else %} {{ part.text }}{% endif %}{% endfor %}{% endfor %} then'
)


def make_model(kind: str, folder: Path) -> Path:
    """Write a model and its processor to a folder.

    Args:
        kind: ``blip`` takes one picture and no chat, ``llava`` several pictures, and ``qwen2_vl`` a
            video.
        folder: The new folder.
    """
    torch.manual_seed(0)
    for part in dict(blip=make_blip, llava=make_llava, qwen2_vl=make_qwen2_vl)[kind]():
        part.save_pretrained(folder)
    return folder


def make_blip() -> tuple[Any, Any]:
    """Return a model of the kind that completes a caption."""
    import transformers as t

    words = [*WORDS[:2], '[CLS]', '[SEP]', '[MASK]', '[DEC]', *WORDS[4:]]
    tokenizer = t.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    pictures = t.BlipImageProcessor(size=dict(height=SIDE, width=SIDE))
    small = dict(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=WIDTH,
    )
    special = dict(bos_token_id=5, pad_token_id=0, eos_token_id=3, sep_token_id=3)
    config = t.BlipConfig(
        text_config=dict(
            small,
            vocab_size=len(words),
            encoder_hidden_size=WIDTH,
            max_position_embeddings=256,
            **special,
        ),
        vision_config=dict(small, image_size=SIDE, patch_size=PATCH),
    )
    return t.BlipForConditionalGeneration(config), t.BlipProcessor(pictures, tokenizer)


def make_llava() -> tuple[Any, Any]:
    """Return a chat model that takes several pictures."""
    import transformers as t

    words = [*WORDS, '<image>']
    size = dict(height=SIDE, width=SIDE)
    processor = t.LlavaProcessor(
        t.CLIPImageProcessor(size=dict(shortest_edge=SIDE), crop_size=size),
        make_tokenizer(words),
        patch_size=PATCH,
        vision_feature_select_strategy='default',
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    small = dict(hidden_size=WIDTH, intermediate_size=WIDTH, num_attention_heads=2)
    vision = dict(small, num_hidden_layers=2, image_size=SIDE, patch_size=PATCH)
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(**vision),
        text_config=make_text_config(t.LlamaConfig, words),
        image_token_index=words.index('<image>'),
        image_token_id=words.index('<image>'),
    )
    return t.LlavaForConditionalGeneration(config), processor


def make_qwen2_vl() -> tuple[Any, Any]:
    """Return a chat model that takes videos."""
    import transformers as t

    words = [*WORDS, '<|vision_start|>', '<|vision_end|>', '<|image_pad|>', '<|video_pad|>']
    template = TEMPLATE.replace('<video>', '<|vision_start|><|video_pad|><|vision_end|>')
    least, most = 28 * 28, 56 * 56
    processor = t.Qwen2VLProcessor(
        t.Qwen2VLImageProcessor(min_pixels=least, max_pixels=most),
        make_tokenizer(words),
        t.Qwen2VLVideoProcessor(size=dict(shortest_edge=least, longest_edge=8 * most)),
        chat_template=template,
    )
    rope = dict(rope_type='default', rope_theta=1e4, mrope_section=[2, 1, 1])
    config = t.Qwen2VLConfig(
        text_config=make_text_config(dict, words, rope_parameters=rope),
        vision_config=dict(depth=1, embed_dim=WIDTH, hidden_size=WIDTH, num_heads=2),
        image_token_id=words.index('<|image_pad|>'),
        video_token_id=words.index('<|video_pad|>'),
        vision_start_token_id=words.index('<|vision_start|>'),
        vision_end_token_id=words.index('<|vision_end|>'),
    )
    return t.Qwen2VLForConditionalGeneration(config), processor


def make_tokenizer(words: list[str]) -> Any:
    """Return a tokenizer that knows these words."""
    import tokenizers
    import transformers as t

    numbers = {word: number for number, word in enumerate(words)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token='[UNK]'))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return t.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token='[UNK]',
        pad_token='[PAD]',
        bos_token='<s>',
        eos_token='</s>',
        additional_special_tokens=words[len(WORDS) :],
    )


def make_text_config(kind: Any, words: list[str], **more: Any) -> Any:
    """Return the config of a small decoder."""
    return kind(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        **more,
    )

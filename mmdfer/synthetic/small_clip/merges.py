"""Learn the byte-pair merges of the small CLIP's tokenizer from its captions.

`tokenizers` learns others from the same words: pairs that are equally common it takes by the order
in which its tokens were made, and here the pair that sorts first is taken.
"""

from __future__ import annotations

import re
from collections import Counter

from mmdfer.synthetic.small_clip.captions import EMOTION_TEMPLATES, emotion_caption, unit_caption
from mmdfer.synthetic.small_clip.training_faces import WORDS, draw_pose, stream


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

"""Learn the byte-pair merges of the small CLIP's tokenizer from its captions.

The library `tokenizers` learns other merges from the same words. Among pairs of equal frequency, it
takes the pair with the oldest tokens, whereas this module takes the pair that sorts first.
"""

from __future__ import annotations

import re
from collections import Counter

from mmdfer.synthetic.small_clip.captions import EMOTION_TEMPLATES, emotion_caption, unit_caption
from mmdfer.synthetic.small_clip.training_faces import WORDS, draw_pose, stream


def caption_words(n: int = 4000) -> Counter[str]:
    """Count the words in captions of random faces, from which the merges are learned.

    The captions come from a random stream with a fixed seed.

    Args:
        n: Number of faces.

    Returns:
        The number of occurrences of each word, in lower case.
    """
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
    """Learn byte-pair merges for open_clip's `SimpleTokenizer`.

    Args:
        counts: Number of occurrences of each word. Words consist of lower-case ASCII letters.
        limit: Largest number of merges. Fewer are learned if every word is one token before.

    Returns:
        The merges in the order in which they were learned, the most frequent pair first. Among
        pairs of equal frequency, the pair that sorts first comes first.
    """
    words = {(*word[:-1], word[-1] + '</w>'): count for word, count in sorted(counts.items())}
    merges: dict[str, tuple[str, str]] = {}
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in words.items():
            for pair in zip(symbols, symbols[1:], strict=False):
                # Two merges to the same string would give one token with two ids, which the
                # tokenizer does not support.
                if ''.join(pair) not in merges:
                    pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges[''.join(best)] = best
        words = {merge_pair(symbols, best): count for symbols, count in words.items()}
    return list(merges.values())


def merge_pair(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join every occurrence of a pair in the symbols of a word, from left to right."""
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)

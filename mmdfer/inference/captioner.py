"""Describe clips in words with image-text and video-text models of the package transformers."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from mmdfer.datasets.transforms.frame_reader import FolderReader
from mmdfer.datasets.transforms.video_reader import VideoReader
from mmdfer.errors import DFERError, UnreadableClipError, first_line
from mmdfer.faces.pictures import shrink
from mmdfer.files import hash_file

#: The prompt that is used if the user gives no other file. It is our choice.
PROMPT = Path(__file__).with_name('caption_prompt.txt')
# These numbers are our choice. Each caption must fit into the 77 tokens of CLIP's text tower.
_FRAMES = 8  # of each clip, at equal distances
_LONGEST = 384  # pixels of the longer side of a frame
_TOKENS = 96  # of a caption at most
_OLDEST = 5  # release of transformers
_COLUMNS = 4  # of frames in the single picture for models without a chat template
_READ_SUFFIXES = ('.safetensors', '.json', '.jinja', '.txt', '.model')
_ONLY_SAFETENSORS = (
    'only safetensors files are read, because loading other files can execute code; choose a model '
    'with safetensors files, or convert its weights'
)


@dataclass(frozen=True)
class Captioning:
    """Hold how clips are described.

    Attributes:
        model: Name of a model on the Hugging Face hub, or folder of a model.
        prompt: Text file with the request to the model.
    """

    model: str
    prompt: str = str(PROMPT)


class Captioner:
    """Describe clips with a model of transformers, without executing code from its files.

    A model with a chat template gets the frames as a video if it takes videos, and else as several
    pictures. A model without a chat template gets one picture, in which the frames are arranged in
    two rows, and the prompt as the beginning of the text. Each next token is the most likely one
    (greedy search), so that the same frames give the same caption.

    The constructor reads everything but the weights, which :meth:`load` reads.

    Args:
        captioning: The model and the prompt.
        commit: Commit of a model on the hub. By default, the newest one.

    Raises:
        DFERError: If the package transformers, the model or the prompt is missing, if the weights
            are not in safetensors files, or if the model does not turn pictures into text.
    """

    def __init__(self, captioning: Captioning, commit: str | None = None) -> None:
        self._commit = commit
        self.name, self.prompt = captioning.model, _read_prompt(captioning.prompt)
        self._package = _import_transformers()
        self._config = self._read('AutoConfig')
        if type(self._config) not in self._package.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise DFERError(
                f'{self.name}: is a model of the kind {self._config.model_type!r}, which does not '
                'turn pictures and a prompt into text; choose an image-text-to-text model'
            )
        self._commit = _find_weights(self.name, commit)
        self._processor = self._read('AutoProcessor')
        if not hasattr(self._processor, 'image_processor'):
            raise DFERError(
                f'{self.name}: has no processor for pictures and text; choose another model'
            )
        self._net: Any = None

    def record(self) -> dict[str, Any]:
        """Return the settings on which the captions depend, as JSON values."""
        return dict(
            model=self.name,
            commit=self._commit,
            files=None if self._commit else _hash_model(self.name),
            prompt=self.prompt,
            frames=_FRAMES,
            longest_side=_LONGEST,
            tokens=_TOKENS,
        )

    def load(self) -> None:
        """Read the weights, and move them to the GPU if there is one.

        Raises:
            DFERError: If they cannot be read.
        """
        gpu = torch.cuda.is_available()
        self._net = self._read(
            'AutoModelForImageTextToText',
            use_safetensors=True,
            dtype='auto' if gpu else torch.float32,
        )
        self._net.to('cuda' if gpu else 'cpu').eval()

    def describe(self, path: str) -> str:
        """Return the caption of a clip as one line, which may be empty.

        Args:
            path: The video or the folder of pictures.

        Raises:
            UnreadableClipError: If the clip cannot be read.
            DFERError: If the model cannot be given frames and a prompt.
        """
        frames = _sample_frames(path)
        try:
            inputs = self._prepare(frames).to(self._net.device, self._net.dtype)
            with torch.inference_mode():
                tokens = self._net.generate(
                    **inputs, do_sample=False, num_beams=1, max_new_tokens=_TOKENS
                )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise DFERError(
                f'{self.name}: cannot be given {_FRAMES} frames and a prompt '
                f'({first_line(error)}); choose another model'
            ) from error
        return self._decode(inputs['input_ids'][0], tokens[0])

    def _read(self, kind: str, **options: Any) -> Any:
        """Call ``from_pretrained`` of a class of transformers, which never executes foreign code.

        Raises:
            DFERError: If the files are missing or cannot be read without executing code.
        """
        try:
            return getattr(self._package, kind).from_pretrained(
                self.name, trust_remote_code=False, revision=self._commit or 'main', **options
            )
        # RuntimeError: the weights have other shapes than the config of the model says.
        except (
            OSError,
            ValueError,
            KeyError,
            ImportError,
            RuntimeError,
            SafetensorError,
        ) as error:
            raise DFERError(
                f'{self.name}: transformers cannot load the model ({first_line(error)}); give the '
                'name of a model, or the folder with its files; code in its files is not executed'
            ) from error

    def _prepare(self, frames: list[np.ndarray]) -> Any:
        """Return the inputs of the model for frames, each RGB uint8 (H, W, 3)."""
        template = getattr(self._processor, 'chat_template', None)
        if not template:
            sheet = Image.fromarray(_arrange(frames))
            return self._processor(images=sheet, text=self.prompt, return_tensors='pt')
        videos = hasattr(self._processor, 'video_processor') and 'video' in str(template)
        shown = [dict(type='video')] if videos else [dict(type='image')] * len(frames)
        content = [*shown, dict(type='text', text=self.prompt)]
        text = self._processor.apply_chat_template(
            [dict(role='user', content=content)], add_generation_prompt=True, tokenize=False
        )
        if videos:
            video = np.stack(frames)
            return self._processor(
                text=[text], videos=[video], do_sample_frames=False, return_tensors='pt'
            )
        pictures = [Image.fromarray(frame) for frame in frames]
        return self._processor(text=[text], images=[pictures], return_tensors='pt')

    def _decode(self, given: torch.Tensor, tokens: torch.Tensor) -> str:
        """Return the text after the prompt, with which most models begin their answer."""
        if len(tokens) >= len(given) and torch.equal(tokens[: len(given)], given):
            tokens = tokens[len(given) :]
        decode = self._processor.tokenizer.decode
        text = decode(tokens, skip_special_tokens=True)
        prompt = decode(given, skip_special_tokens=True)
        return ' '.join(text.removeprefix(prompt).split())


def _sample_frames(path: str) -> list[np.ndarray]:
    """Return frames of a clip at equal distances, of the same size, each RGB uint8 (H, W, 3)."""
    if not os.path.exists(path):
        raise UnreadableClipError(f'{path}: does not exist; correct the path')
    reader = FolderReader(path) if os.path.isdir(path) else VideoReader(path)
    numbers = [int((number + 0.5) * len(reader) / _FRAMES) for number in range(_FRAMES)]
    frames = [shrink(frame, _LONGEST)[0] for frame in reader.read(numbers)]
    largest = max(frames, key=lambda frame: frame.shape[0] * frame.shape[1])
    size = largest.shape[1], largest.shape[0]
    return [np.asarray(Image.fromarray(frame).resize(size)) for frame in frames]


def _arrange(frames: list[np.ndarray]) -> np.ndarray:
    """Return one picture with the frames from left to right, in rows of ``_COLUMNS``."""
    rows = [np.hstack(frames[i : i + _COLUMNS]) for i in range(0, len(frames), _COLUMNS)]
    return np.vstack(rows)


def _find_weights(model: str, commit: str | None) -> str | None:
    """Check that the weights of a model are in safetensors files, and download one if necessary.

    Args:
        model: Name or folder of the model.
        commit: Commit of a model on the hub, or None for the newest one.

    Returns:
        The commit of a model on the hub, or None for a folder.

    Raises:
        DFERError: If the weights are in other files, or cannot be downloaded.
    """
    if os.path.isdir(model):
        if not any(Path(model).glob('*.safetensors')):
            raise DFERError(f'{model}: has no safetensors file; {_ONLY_SAFETENSORS}')
        return None
    hub = import_module('huggingface_hub')
    for name in ('model.safetensors.index.json', 'model.safetensors'):
        try:
            file = Path(hub.hf_hub_download(model, name, revision=commit))
        except hub.errors.EntryNotFoundError as error:
            missing = error
        else:
            return file.parent.name  # .../snapshots/COMMIT/model.safetensors
    reason = first_line(missing)
    if isinstance(missing, hub.errors.LocalEntryNotFoundError):  # a kind of EntryNotFoundError
        raise DFERError(
            f'{model}: the weights are not on this machine and the hub cannot be reached '
            f'({reason}); connect, or give the folder of a model'
        )
    raise DFERError(f'{model}: no safetensors file was found ({reason}); {_ONLY_SAFETENSORS}')


def _hash_model(folder: str) -> str:
    """Return a digest of the files in a model's folder on which its captions can depend."""
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in _READ_SUFFIXES)
    hashes = ''.join(f'{path.name} {hash_file(path)}\n' for path in files)
    return hashlib.sha256(hashes.encode()).hexdigest()[:16]


def _read_prompt(path: str) -> str:
    """Return the text of a prompt file as one line.

    Raises:
        DFERError: If it cannot be read or is empty.
    """
    try:
        text = ' '.join(Path(path).read_text(encoding='utf-8-sig').split())
    except (OSError, UnicodeDecodeError) as error:
        raise DFERError(
            f'{path}: the prompt cannot be read ({error}); give a text file in UTF-8'
        ) from None
    if not text:
        raise DFERError(f'{path}: the prompt is empty; write what the model shall describe')
    return text


def _import_transformers() -> Any:
    """Import transformers, or say how to install it."""
    remedy = "run pip install 'transformers>=5'"
    try:
        package = import_module('transformers')
    except ImportError as error:
        raise DFERError(
            f'captions: the package transformers cannot be imported ({first_line(error)}); {remedy}'
        ) from error
    if int(package.__version__.partition('.')[0]) < _OLDEST:
        raise DFERError(
            f'captions: transformers {package.__version__} is older than {_OLDEST}; {remedy}'
        )
    return package

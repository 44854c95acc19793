"""Define the domains of the synthetic benchmark: who is drawn, and in which style.

All domains have the same action units, expressions, classes and numbers of clips. They share no
person: each domain draws its people and clips from random streams of its own, and other streams
than those of the small CLIPs' training.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np

from ..errors import DFERError
from . import comic, emotions
from .emotions import ClipSpec, curves
from .faces import Identity, render, render_parts


class Domain(ABC):
    """Draw the clips of one domain of the benchmark.

    Attributes:
        name: Name of the domain, as commands and SynthDFER take it.
        dataset: Name of the dataset in reports, and of its folder below ``data/``.
        version: Version of the generator. It must change whenever the same arguments would give
            other clips.
    """

    name: ClassVar[str]
    dataset: ClassVar[str]
    version: ClassVar[int]

    @property
    def mark(self) -> dict[str, Any]:
        """Return the entries that tell the records of this domain from those of the first one."""
        return dict(domain=self.name)

    @abstractmethod
    def stream_seed(self, seed: int) -> int:
        """Return the seed of all random streams of the benchmark with the seed ``seed``.

        It must differ from the seeds of all other domains.
        """

    def make_identities(self, num_train: int, num_test: int, seed: int) -> dict[str, Identity]:
        """Draw the people of both splits.

        Args:
            num_train: Number of people of the training split.
            num_test: Number of people of the test split.
            seed: Seed of the benchmark.

        Returns:
            The people by name, the training split first.
        """
        return emotions.make_identities(num_train, num_test, self.stream_seed(seed))

    def make_specs(
        self,
        num_train: int,
        num_test: int,
        num_train_identities: int,
        num_test_identities: int,
        seed: int,
    ) -> list[ClipSpec]:
        """Draw the parameters of all clips; the arguments are those of ``make_benchmark``."""
        people = (num_train_identities, num_test_identities)
        return emotions.make_specs(num_train, num_test, *people, self.stream_seed(seed))

    def to_json(self, spec: ClipSpec) -> dict[str, Any]:
        """Return all parameters of a clip as values that JSON can store."""
        return spec.to_json()

    @abstractmethod
    def draw(
        self,
        spec: ClipSpec,
        face: Identity,
        aus: np.ndarray,
        number: int,
        size: int,
        camera: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Draw one frame of a clip.

        Args:
            spec: The parameters of the clip.
            face: The face that the clip shows.
            aus: Intensities (A,) of the action units in this frame, in the order of ``AUS``.
            number: Number of the frame in the clip.
            size: Side of the square frame in pixels.
            camera: The random generator of the camera noise. By default there is no noise.

        Returns:
            The frame, RGB uint8 (size, size, 3).
        """

    @abstractmethod
    def draw_parts(
        self, spec: ClipSpec, face: Identity, aus: np.ndarray, number: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute the part mask (size, size) and the landmarks (68, 2) of a frame of :meth:`draw`.

        Args:
            spec: The parameters of the clip.
            face: The face that the clip shows.
            aus: Intensities (A,) of the action units in this frame, in the order of ``AUS``.
            number: Number of the frame in the clip.
            size: Side of the square frame in pixels.
        """

    def frames(self, spec: ClipSpec, face: Identity, size: int) -> Iterator[np.ndarray]:
        """Draw a clip frame by frame.

        Args:
            spec: The parameters of the clip.
            face: The face that the clip shows.
            size: Side of the square frames in pixels.

        Yields:
            The frames in order, each RGB uint8 (size, size, 3).
        """
        camera = spec.camera()
        for number, aus in enumerate(curves(spec)):
            yield self.draw(spec, face, aus, number, size, camera)


class Shaded(Domain):
    """Draw the clips of the first domain, whose faces have soft shading (``faces.py``)."""

    name = 'shaded'
    dataset = 'synth'
    version = 1

    @property
    def mark(self) -> dict[str, Any]:
        """Return no entries: the records of the first domain have none."""
        return {}

    def stream_seed(self, seed: int) -> int:
        """Return the seed itself."""
        return seed

    def draw(
        self,
        spec: ClipSpec,
        face: Identity,
        aus: np.ndarray,
        number: int,
        size: int,
        camera: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Draw one frame of a clip; see :meth:`Domain.draw`."""
        time = number / (spec.num_frames - 1)
        return render(face, aus, spec.shot(), time=time, size=size, rng=camera)

    def draw_parts(
        self, spec: ClipSpec, face: Identity, aus: np.ndarray, number: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute mask and landmarks of a frame; see :meth:`Domain.draw_parts`."""
        time = number / (spec.num_frames - 1)
        return render_parts(face, aus, spec.shot(), time=time, size=size)


class Comic(Domain):
    """Draw the clips of the second domain, in the style of a comic (``comic.py``)."""

    name = 'comic'
    dataset = 'synth_comic'
    version = 1

    # The words in the seeds of the streams that other domains do not have.
    _WORD = int.from_bytes(b'comic', 'little')
    _PERSON, _STYLE = 4, 2

    def stream_seed(self, seed: int) -> int:
        """Return a seed that begins with ``seed`` and goes on with the name of the domain."""
        return (self._WORD << 32) + seed

    def make_identities(self, num_train: int, num_test: int, seed: int) -> dict[str, Identity]:
        """Draw the people of both splits, each from random streams of its own."""
        own = self.stream_seed(seed)
        faces = super().make_identities(num_train, num_test, seed)
        return {
            self._rename(name): comic.sample_person(
                np.random.Generator(np.random.PCG64([own, self._PERSON, *name.encode()])), face
            )
            for name, face in faces.items()
        }

    def make_specs(self, *args: int, **kwargs: int) -> list[ClipSpec]:
        """Draw the parameters of all clips, whose expressions are distributed as in each domain."""
        specs = super().make_specs(*args, **kwargs)
        return [replace(spec, identity=self._rename(spec.identity)) for spec in specs]

    def _rename(self, identity: str) -> str:
        """Return the name of a person of this domain, for example 'comic_train_007'."""
        return f'{self.name}_{identity}'

    def _sample(self, spec: ClipSpec) -> tuple[comic.Shot, comic.Style]:
        """Return how a clip is filmed and inked, which depends only on its seed."""
        rng = np.random.Generator(np.random.PCG64([spec.seed, self._STYLE]))
        return comic.sample_shot(rng, spec.shot()), comic.sample_style(rng)

    def to_json(self, spec: ClipSpec) -> dict[str, Any]:
        """Return all parameters of a clip as values that JSON can store."""
        shot, style = self._sample(spec)
        return super().to_json(spec) | dict(shot=asdict(shot), style=asdict(style))

    def draw(
        self,
        spec: ClipSpec,
        face: Identity,
        aus: np.ndarray,
        number: int,
        size: int,
        camera: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Draw one frame of a clip; see :meth:`Domain.draw`. There is no camera noise."""
        return comic.draw(face, aus, *self._sample(spec), number / (spec.num_frames - 1), size)

    def draw_parts(
        self, spec: ClipSpec, face: Identity, aus: np.ndarray, number: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute mask and landmarks of a frame; what covers the face is background."""
        time = number / (spec.num_frames - 1)
        return comic.draw_parts(face, aus, *self._sample(spec), time, size)


SHADED, COMIC = Shaded(), Comic()
#: The domains by name.
DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (SHADED, COMIC)}


def find_domain(name: str) -> Domain:
    """Return the domain of this name.

    Raises:
        DFERError: If there is no such domain.
    """
    if name not in DOMAINS:
        raise DFERError(f'domain must be one of {", ".join(DOMAINS)}, got {name!r}')
    return DOMAINS[name]

"""Videos: the pictures of a file by their number, as a full decode shows them.

Every file is decoded once from its beginning to its end. So the number of its pictures is counted,
not taken from a header, a damaged file is refused whichever pictures are asked for, and no seek can
end at another picture than the one meant.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition

from mmdfer.datasets.transforms.containers import find_damage
from mmdfer.errors import UnreadableClipError
from mmdfer.files import PASSING, read_patiently

# Decoded pictures that are kept until they are asked for, in bytes. A longer film is decoded twice.
KEPT_BYTES = 64 * 2**20

# Larger pictures than of 8K television come from a damaged header, and would fill the memory.
MAX_PIXELS = 2**26

# FFmpeg may open no other file or address than the one that it was given, as playlists ask for.
_ONLY_FILES = dict(protocol_whitelist='file')


class VideoReader:
    """Read the pictures of a video by their number.

    Picture i is the i-th that a full decode shows, in the order of presentation: after the
    container's edit list, turned and mirrored as its tag says, in the colours that FFmpeg converts
    it to. ``ffmpeg -i FILE -fps_mode passthrough`` writes the same pictures.

    Args:
        path: The file.
        num_threads: Threads of the decoder.

    Attributes:
        fps: Pictures per second on average; 0 where the file does not say.

    Raises:
        UnreadableClipError: The file is damaged, holds no video, or cannot be decoded here.
        FileSystemError: The file may be whole, but the file system does not give it.
    """

    def __init__(self, path: str | os.PathLike, num_threads: int = 1) -> None:
        self.path, self.num_threads = os.fspath(path), num_threads
        self.fps = 0.0
        self._kept: list[av.VideoFrame] | None = []
        self._converter = _Converter()
        read_patiently(self._open, path)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self._length

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all pictures in order, RGB uint8 (H, W, 3)."""
        for frame in self._decode() if self._kept is None else self._kept:
            yield self._convert(frame)

    def read(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Return some pictures.

        Args:
            numbers: Of the pictures, in any order, each in 0..len - 1; some may be the same.

        Returns:
            RGB uint8 (H, W, 3) for each, of the picture's own size.

        Raises:
            IndexError: There is no picture of a number.
        """
        wanted = {int(number) for number in numbers}
        for number in wanted:
            if not 0 <= number < len(self):
                raise IndexError(f'{self.path}: no picture {number}, it has {len(self)}')
        if self._kept is not None:
            found = {number: self._convert(self._kept[number]) for number in wanted}
        else:
            found = {}
            for number, frame in enumerate(self._decode()):
                if number in wanted:
                    found[number] = self._convert(frame)
                if len(found) == len(wanted):
                    break
        return [found[int(number)] for number in numbers]

    def _open(self) -> None:
        """Decode the file once: count its pictures, and keep them as long as they fit."""
        if not os.path.isfile(self.path):
            os.stat(self.path)  # raises where there is nothing, or the file system fails
            raise self._unreadable('it is no file')
        if damage := find_damage(self.path):
            raise self._unreadable(damage)
        self._kept, self._length, size = [], 0, 0
        for frame in self._decode():
            self._length += 1
            # What cannot be converted is refused here, whichever pictures are asked for.
            if self._converter.is_new(frame):
                self._convert(frame)
            if self._kept is not None:
                self._kept.append(frame)
                size += sum(plane.buffer_size for plane in frame.planes)
                if size > KEPT_BYTES:
                    self._kept = None
        if self._length == 0:
            raise self._unreadable('no picture can be decoded')

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield the frames in the order of presentation.

        Raises:
            UnreadableClipError: A packet or a frame is damaged.
            OSError: The file system fails.
        """
        try:
            # Without "file:" a colon in the name would be taken for the end of a protocol.
            with av.open(
                f'file:{self.path}', container_options=_ONLY_FILES, metadata_errors='replace'
            ) as container:
                yield from self._decode_stream(container)
        except av.FFmpegError as error:
            if error.errno in PASSING:
                _read_through(self.path)  # raises where it is the file system's fault
            raise self._unreadable(str(error.strerror)) from error

    def _decode_stream(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        stream = self._choose_stream(container)
        stream.codec_context.thread_count = self.num_threads
        stream.codec_context.options = _decoder_options(stream.codec_context.name)
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        begun = False
        for packet in self._demux(container, stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                # A recording may begin between two key frames: nothing can be shown before one.
                if begun or packet.is_keyframe:
                    raise
                continue
            begun = begun or packet.is_keyframe  # its picture may come out after later packets
            for frame in frames:
                if frame.is_corrupt:
                    raise self._unreadable('a picture is damaged')
                begun = True
                yield frame

    def _demux(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.Packet]:
        """Yield the packets of a stream, and an empty one after the last."""
        # Transport streams count their packets. Where two were joined, the count breaks off up to
        # two packets before a key frame, and nothing is missing.
        allowed = 3 if container.format.name == 'mpegts' else 1
        left = 0
        for packet in container.demux(stream):
            is_last = packet.size == 0 and packet.dts is None
            if packet.size == 0 and not is_last:
                continue  # FFmpeg's decoders would take a picture without data for the end
            if packet.is_corrupt:
                left = allowed
            elif packet.is_keyframe:
                left = 0
            if left == 1 or (left and is_last):
                raise self._unreadable('a part of the file is missing')
            left = max(left - 1, 0)
            yield packet
            if is_last:
                return  # where a stream was found after the file was opened, PyAV would fail now

    def _choose_stream(self, container: av.container.InputContainer) -> av.VideoStream:
        """Return the stream that ffmpeg would take: the default one, or the largest; no cover."""
        streams = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise self._unreadable('it holds no video')

        def rank(stream: av.VideoStream) -> tuple[bool, int]:
            default = bool(stream.disposition & Disposition.default)
            context = stream.codec_context
            return default, 0 if context is None else context.width * context.height

        stream = max(streams, key=rank)
        if stream.codec_context is None:
            raise UnreadableClipError(
                f'{self.path}: the installed FFmpeg has no decoder for its codec; convert it: '
                'ffmpeg -i FILE -c:v libx264 NEW.mp4'
            )
        return stream

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        try:
            return self._converter(frame)
        except av.FFmpegError as error:
            raise self._unreadable(f'its colours cannot be converted: {error.strerror}') from error

    def _unreadable(self, reason: str) -> UnreadableClipError:
        return UnreadableClipError(
            f'{self.path}: cannot be read as a video ({reason}); restore the file, or take the '
            'clip off the list'
        )


def _read_through(path: str) -> None:
    """Read a file to its end without FFmpeg, whose I/O errors may also mean a damaged file."""
    with open(path, 'rb') as file:
        while file.read(2**20):
            pass


def _decoder_options(codec: str) -> dict[str, str]:
    """Return FFmpeg's options for a decoder."""
    options = dict(max_pixels=str(MAX_PIXELS))
    if codec == 'hevc':  # this decoder drops a damaged picture without an error otherwise
        options['err_detect'] = 'explode'
    return options


class _Converter:
    """Convert frames to upright RGB by FFmpeg's own filters, as its command line does."""

    def __init__(self) -> None:
        self._graphs: dict[tuple, av.filter.Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Return (H, W, 3), uint8."""
        filters, key = self._settings(frame)
        if key not in self._graphs:
            self._graphs[key] = _build_graph(frame, filters)
        graph = self._graphs[key]
        graph.push(frame)
        return np.ascontiguousarray(graph.pull().to_ndarray())

    def is_new(self, frame: av.VideoFrame) -> bool:
        """Return whether no frame of this size, format and rotation was converted before."""
        return self._settings(frame)[1] not in self._graphs

    @staticmethod
    def _settings(frame: av.VideoFrame) -> tuple[Sequence[tuple[str, str]], tuple]:
        """Return the filters that turn a frame, and all that a graph is built for."""
        filters = _upright(_display_matrix(frame))
        key = (frame.width, frame.height, frame.format.name, *filters)
        return filters, (*key, frame.colorspace, frame.color_range)


def _build_graph(frame: av.VideoFrame, filters: Sequence[tuple[str, str]]) -> av.filter.Graph:
    graph = av.filter.Graph()
    if hasattr(graph, 'threads'):  # PyAV before 18 leaves their number to FFmpeg
        graph.threads = 1  # the pictures are small, and workers have a CPU each
    chain = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
    ]
    for name, arguments in (*filters, ('format', 'pix_fmts=rgb24'), ('buffersink', '')):
        chain.append(graph.add(name, arguments) if arguments else graph.add(name))
    for before, after in zip(chain, chain[1:]):
        before.link_to(after)
    graph.configure()
    return graph


def _display_matrix(frame: av.VideoFrame) -> Sequence[int] | None:
    """Return the first six of the nine numbers that say how a frame is to be shown."""
    # Not frame.side_data: it and the frame refer to each other, which would keep both in memory
    # until Python's garbage collection.
    container = SideDataContainer(frame)  # type: ignore[call-arg]  # the stub has no constructor
    data: Any = container.get(SideData.DISPLAYMATRIX)
    return None if data is None else np.frombuffer(data, np.int32)[:6].tolist()


def _upright(matrix: Sequence[int] | None) -> Sequence[tuple[str, str]]:
    """Return the filters, with their arguments, that ffmpeg puts in for a display matrix."""
    if matrix is None:
        return ()
    a, b, _, c, d, _ = matrix
    angle = math.degrees(math.atan2(b / (math.hypot(b, d) or 1), a / (math.hypot(a, c) or 1))) % 360
    if abs(angle - 90) < 1:
        return [('transpose', 'cclock_flip' if c > 0 else 'clock')]
    if abs(angle - 180) < 1:
        return [('hflip', '')] * (a < 0) + [('vflip', '')] * (d < 0)
    if abs(angle - 270) < 1:
        return [('transpose', 'clock_flip' if c < 0 else 'cclock')]
    if 1 <= angle <= 359:
        return [('rotate', f'{angle}*PI/180')]
    return [('vflip', '')] * (d < 0)

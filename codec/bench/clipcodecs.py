"""Clip codecs of others: x264, x265 and SVT-AV1 through PyAV, tuned for PSNR."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codec.bench.machine import extensions, package_version
from codec.errors import UsageError
from codec.media.files import reason
from codec.media.frames import Clip, ClipInfo, Frame, PixelFormat
from codec.media.planes import PACKINGS, frame_of, planes_of

if TYPE_CHECKING:
    from av import CodecContext, Packet, VideoFrame

# One closed group of pictures however long the clip is, as this codec has one segment.
_X264 = "keyint=infinite:scenecut=0:bframes=8:threads={threads}:sliced-threads=0"
# With AVX-512, the macroblock tree of x264 core 165 reads what nobody wrote: files differ by run.
_X264_WITHOUT_AVX512 = ":asm=AVX2"
# With more frame threads than one, files would depend on the number of cores.
_X265 = (
    "keyint=-1:scenecut=0:open-gop=0:bframes=8:info=0:log-level=none"
    ":pools={threads}:frame-threads=1"
)
_SVT_AV1 = "keyint=-1:tune=1:scd=0:aq-mode=0:enable-overlays=0:lp={threads}"
_SVT_MAX_LEVEL_OF_PARALLELISM = 6
# On some clips that are less wide or high, x265 and SVT-AV1 write beyond their memory.
_SAFE_SIDE = 64
_START_CODE = b"\0\0\1"
_H264_SEI = 6


@dataclass(frozen=True)
class Stream:
    """The packets of a clip without a container, and the pixel format of what was encoded."""

    packets: tuple[bytes, ...]
    pixel_format: PixelFormat

    @property
    def size_bytes(self) -> int:
        """Of all packets."""
        return sum(map(len, self.packets))


@dataclass(frozen=True, kw_only=True)
class ClipCodec:
    """One codec at one effort; `values` of its constant quality (CRF) spread points over its curve.

    `encoder` and `decoder` are FFmpeg's names; `params`, in the encoder's option `params_name`,
    are the library's own, with `{threads}` for their number. `min_side` is in luma pixels.
    """

    name: str
    encoder: str
    decoder: str
    options: Mapping[str, str]
    params_name: str
    params: str
    values: tuple[float, ...]
    min_side: int = 1
    unit: str = "crf"

    def is_installed(self) -> bool:
        """Whether this PyAV has both directions of it."""
        import av

        sides = ((self.encoder, "w"), (self.decoder, "r"))
        try:
            return all(av.Codec(*side).name == side[0] for side in sides)
        except ValueError:
            return False

    def describe(self, threads: int) -> str:
        """Versions and options."""
        import av

        library = ".".join(map(str, av.library_versions["libavcodec"]))
        words = [f"PyAV {package_version('av')}", f"libavcodec {library}", self.encoder]
        words += [f"{name} {value}" for name, value in self._options(threads).items()]
        return ", ".join(words)

    def encode(self, clip: Clip, value: float, threads: int) -> Stream:
        """The stream at a CRF, without the sentences that encoders leave in it.

        Raises:
            UsageError: the codec cannot hold such a clip.
        """
        import av

        if self.encoder == "libsvtav1":
            # Nothing but errors: it writes to the standard error of the process by itself.
            os.environ.setdefault("SVT_LOG", "1")
        try:
            context = self._context(clip.info, value, threads)
            frames = [*_av_frames(clip, context), None]
            packets = [bytes(packet) for frame in frames for packet in context.encode(frame)]
        except (av.error.FFmpegError, ValueError) as error:
            raise UsageError(f"cannot hold it: {reason(error)}") from error
        if self.encoder == "libx264":
            packets = map(without_sei, packets)
        return Stream(tuple(packets), clip.info.format)

    def decode(self, stream: Stream, threads: int) -> list[Frame]:
        """The frames of a stream, in the pixel format that was encoded."""
        import av

        context = av.CodecContext.create(self.decoder, "r")
        context.thread_type, context.thread_count = "AUTO", threads
        found = []
        for packet in (*map(_packet, stream.packets), None):
            found += context.decode(packet)
        # FFmpeg's decoder of H.264 adds chroma to grey frames.
        kept = slice(stream.pixel_format.num_planes)
        return [Frame(planes_of(frame)[kept], index) for index, frame in enumerate(found)]

    def _options(self, threads: int) -> dict[str, str]:
        if self.encoder == "libsvtav1":
            threads = min(threads, _SVT_MAX_LEVEL_OF_PARALLELISM)
        params = self.params.format(threads=threads)
        if self.encoder == "libx264" and "avx512f" in extensions():
            params += _X264_WITHOUT_AVX512
        return {**self.options, self.params_name: params}

    def _context(self, info: ClipInfo, value: float, threads: int) -> CodecContext:
        import av

        context = av.CodecContext.create(self.encoder, "w")
        context.width, context.height = info.width, info.height
        context.pix_fmt = self._pixel_name(info)
        context.time_base = info.frame_ticks * info.time_base
        context.framerate = 1 / context.time_base
        context.options = {**self._options(threads), "crf": f"{value:g}"}
        return context

    def _pixel_name(self, info: ClipInfo) -> str:
        """FFmpeg's name of the clip's pixel format, which the encoder has to take as it is."""
        import av

        taken = {item.name for item in av.Codec(self.encoder, "w").video_formats}
        names = [name for name, packing in PACKINGS.items() if packing.pixel_format == info.format]
        name = next((name for name in names if name in taken), None)
        if name is None:
            raise ValueError(f"{info.format.layout} of {info.format.depth} bit")
        size = f"{info.width}x{info.height}"
        if min(info.width, info.height) < self.min_side:
            raise ValueError(f"{size}, a side below {self.min_side}")
        down_y, down_x = info.format.chroma_shifts
        if info.width % (1 << down_x) or info.height % (1 << down_y):
            raise ValueError(f"the odd size {size} in {info.format.layout}")
        return name


def without_sei(packet: bytes) -> bytes:
    """A packet of H.264 (Annex B) without supplemental information, which x264 signs with."""
    before, *units = packet.split(_START_CODE)
    kept = [unit for unit in units if unit[:1] and unit[0] & 31 != _H264_SEI]
    return _START_CODE.join([before, *kept])


def _av_frames(clip: Clip, context: CodecContext) -> Iterator[VideoFrame]:
    for index, frame in enumerate(clip.frames):
        av_frame = frame_of(frame.planes, context.pix_fmt)
        av_frame.pts, av_frame.time_base = index, context.time_base
        yield av_frame


def _packet(data: bytes) -> Packet:
    """A packet with a copy of `data`."""
    import av

    # Without a copy, a thread of the decoder takes Python's lock to free its last packet, and waits
    # for ever where PyAV, which holds that lock, already waits for the thread to end.
    packet = av.Packet(len(data))
    packet.update(data)
    return packet


def _x264(preset: str) -> ClipCodec:
    return ClipCodec(
        name=f"x264-{preset}",
        encoder="libx264",
        decoder="h264",
        options={"preset": preset, "tune": "psnr"},
        params_name="x264-params",
        params=_X264,
        values=(43, 38, 33, 28, 23, 18),
    )


def _x265(preset: str) -> ClipCodec:
    return ClipCodec(
        name=f"x265-{preset}",
        encoder="libx265",
        decoder="hevc",
        options={"preset": preset, "tune": "psnr"},
        params_name="x265-params",
        params=_X265,
        min_side=_SAFE_SIDE,
        values=(43, 38, 33, 28, 23, 18),
    )


CLIP_CODECS = (
    _x264("medium"),
    _x264("veryslow"),
    _x265("medium"),
    _x265("veryslow"),
    ClipCodec(
        name="svtav1-p2",
        encoder="libsvtav1",
        decoder="libdav1d",
        options={"preset": "2"},
        params_name="svtav1-params",
        params=_SVT_AV1,
        min_side=_SAFE_SIDE,
        values=(62, 55, 47, 39, 31, 23, 15),
    ),
)

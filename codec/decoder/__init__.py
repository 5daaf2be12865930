"""From a stream to pictures; needs no torch."""

from codec.decoder.stream import Stream, VerifyReport, open_stream, verify
from codec.decoder.summary import NetworkSummary, SegmentSummary, StreamInfo, info

__all__ = [
    "NetworkSummary",
    "SegmentSummary",
    "Stream",
    "StreamInfo",
    "VerifyReport",
    "info",
    "open_stream",
    "verify",
]

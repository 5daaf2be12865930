"""From a picture or clip to a stream: cut, train, freeze, code, and check what was written."""

from codec.encoder.encode import encode_clip
from codec.encoder.tasks import choose_device

__all__ = ["choose_device", "encode_clip"]

"""Networks by id: kept as they were coded, parsed when a segment uses them."""

from __future__ import annotations

import functools
from collections.abc import Callable

from codec.bitstream.elements import Network
from codec.bitstream.fields import Cursor
from codec.bitstream.limits import Limits
from codec.bitstream.network import MODE_COMPLETE, read_network
from codec.errors import BitstreamError
from codec.media.frames import ClipInfo

_PARSED = 4


class NetworkStore:
    """Parses networks on demand and remembers the last few.

    Payloads are as large as the file, parsed networks can be far larger.

    Args:
        find_payload: a cursor at the payload of a network id (behind the id), or BitstreamError.
        info: what the networks must produce.
        limits: what they may use.
    """

    def __init__(
        self, find_payload: Callable[[int], Cursor], *, info: ClipInfo, limits: Limits
    ) -> None:
        self._find_payload = find_payload
        self._info = info
        self._limits = limits
        self._parsed = functools.lru_cache(_PARSED)(self._parse)

    def get(self, network_id: int) -> Network:
        """The network of an id.

        Raises:
            BitstreamError: there is none, or it is damaged or makes another number of planes.
            LimitError: it is larger than the limits allow.
            UnsupportedVersionError: it is coded in a way that this version does not have.
        """
        return self._parsed(network_id)

    def _parse(self, network_id: int) -> Network:
        cursor = self._find_payload(network_id)
        network = read_network(cursor, limits=self._limits, find_complete=self._complete)
        made, needed = network.arch.num_channels, self._info.format.num_planes
        if made != needed:
            raise BitstreamError(
                f"network {network_id} makes {made} channels for pictures with {needed} planes"
            )
        return network

    def _complete(self, network_id: int) -> Network:
        if self._find_payload(network_id).u8("mode of the network") != MODE_COMPLETE:
            raise BitstreamError(
                f"network {network_id} is the base of another one and not complete itself"
            )
        return self.get(network_id)

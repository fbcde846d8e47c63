"""What a Sparkplug host may tell the device: to be born again. Everything else has signed commands."""

import logging

from agent.errors import BadPayload
from agent.sync.link import Incoming, Link
from agent.sync.sparkplug.session import SparkplugWire
from agent.sync.uplink import Uplink

log = logging.getLogger(__name__)


def obey(wire: SparkplugWire, link: Link, uplink: Uplink) -> None:
    """Answer the host's commands to this node, as long as the link lives."""

    def told(incoming: Incoming) -> None:
        incoming.ack()
        try:
            uplink.announce(wire.told(incoming.payload))
        except BadPayload as error:
            log.warning("a Sparkplug command is not understood: %s", error)

    link.subscribe(wire.name.topic("NCMD"), told)

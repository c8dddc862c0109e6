"""The broker: queue, leases, token log, router inboxes and worker registry in Redis (or Valkey), as Lua transitions."""

from broker.client import Broker
from broker.feed import Feed
from broker.inbox import InboxBatch
from broker.options import BrokerOptions

__all__ = ["Broker", "BrokerOptions", "Feed", "InboxBatch"]

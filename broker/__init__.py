"""The broker: queue, leases, token log, router inboxes and worker registry in Redis (or Valkey), as Lua transitions."""

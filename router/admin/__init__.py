"""The admin service, a module for each room: tenants, keys, usage, workers, dead letters, the audit log."""

"""The local stack: everything on one machine, nothing needed but Python."""

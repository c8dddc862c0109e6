"""The domain, pure: number formats, profiles, task taxonomy, precision policy. No I/O, no clock."""

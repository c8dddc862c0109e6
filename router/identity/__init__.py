"""Who calls: found by the credential of a call, never by anything in the request."""

"""Where a router's time goes under load."""

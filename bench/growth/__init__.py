"""Whether what a request costs stays the same as tenants, waiting requests and open streams become many."""

"""How bitlane is run: the local stack, containers, the cluster."""

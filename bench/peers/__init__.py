"""bitlane beside other routers, all before one and the same model server."""

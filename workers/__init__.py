"""Workers: one visible loop that claims, generates, appends and finishes, over one of several engines."""

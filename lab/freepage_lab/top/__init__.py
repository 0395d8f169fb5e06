"""``freepage top``: the running daemons, live, at a terminal."""

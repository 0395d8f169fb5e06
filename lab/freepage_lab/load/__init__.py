"""``freepage load``: programs on client hosts that read, write, list and build, measured from outside."""

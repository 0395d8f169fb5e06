"""``freepage proc-exec``: a command of the system's that finds an emulated machine's files in /proc."""

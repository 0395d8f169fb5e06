"""A real mount point through FUSE: the emulated client behind any program (the kernel's fs/fuse is the other side)."""

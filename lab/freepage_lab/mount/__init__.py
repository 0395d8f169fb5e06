"""A mount point for any program: ``freepage mount``, ``freepage umount`` and mount(8)'s helper."""

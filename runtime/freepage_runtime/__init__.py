"""Process plumbing that both io folders share: clock, settings, logs, registry of daemons, HTTP page, TLS files.

Nothing here knows NFS or the page cache, and nothing here may be imported by the thinking half (``nfs``, ``vfs``,
``nfsd``, ``freepage``): those are handed a clock and never look for one.
"""

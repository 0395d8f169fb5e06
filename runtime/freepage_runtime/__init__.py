"""What both io folders share: the process around a daemon, and the control of a machine that has a page cache.

The plumbing (clock, settings, logs, registry, HTTP page, token, TLS files, signals) knows neither the page cache nor
the wire. The thinking half (``nfs``, ``vfs``, ``nfsd``, ``freepage``) imports nothing of this: it is handed a clock and
never looks for one.
"""

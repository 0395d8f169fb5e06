"""The demo: a real little cluster on this machine, the hook at work, and the leak when it is skipped."""

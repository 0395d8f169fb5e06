"""``freepage report``: what other commands wrote with ``--json``, as one HTML file with plots that can be mailed."""

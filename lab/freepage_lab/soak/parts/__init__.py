"""The parts of the soak test, one module each. A new module here is a new part; nothing else has to know it.

A part has three names: ``ABOUT`` (one line for people), ``async def run(settings: Settings) -> Outcome`` and, if it is
not called as its module, ``NAME``. See `freepage_lab.soak.part`.
"""

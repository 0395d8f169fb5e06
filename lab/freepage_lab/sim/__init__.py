"""The simulated world: virtual time, an in-process network, and whole fleets in one process."""

from freepage_lab.sim.loop import Deadlock, Livelock, VirtualTimeLoop, run
from freepage_lab.sim.network import Fault, Latency, SimNetwork, SimTransport
from freepage_lab.sim.world import World, run_world

__all__ = [
    "Deadlock",
    "Fault",
    "Latency",
    "Livelock",
    "SimNetwork",
    "SimTransport",
    "VirtualTimeLoop",
    "World",
    "run",
    "run_world",
]

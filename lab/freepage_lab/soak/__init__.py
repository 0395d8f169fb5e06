"""Long tests of real servers and clients under what goes wrong in a machine room; `freepage soak`, `make soak`."""

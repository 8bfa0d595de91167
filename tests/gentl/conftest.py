"""Makes the simulated cameras' fixtures known to the tests beside it."""

from tests.gentl.fixture import gentl_producer, simulated_cameras

__all__ = ["gentl_producer", "simulated_cameras"]

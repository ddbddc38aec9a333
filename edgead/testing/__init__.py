"""Public fakes that behave: a clock, a camera, an engine and an output without hardware; :mod:`edgead.testing.plc`: a PLC."""

from edgead.testing.fakes import AskedCamera, FakeCamera, FakeClock, FakeEngine, FakeOutput, Hang, PushedCamera

__all__ = ["AskedCamera", "FakeCamera", "FakeClock", "FakeEngine", "FakeOutput", "Hang", "PushedCamera"]

"""Convert live tensors to plain data."""

from gradviz.capture.tracer import trace, trace_subjects

__all__ = ["trace", "trace_subjects"]

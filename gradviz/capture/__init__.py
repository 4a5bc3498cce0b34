"""From live tensors to plain data: the only place that knows torch."""

from gradviz.capture.tracing.tracer import trace, trace_subjects

__all__ = ["trace", "trace_subjects"]

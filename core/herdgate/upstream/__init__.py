"""The HTTP/1.1 client that carries requests to the backends."""

from herdgate.upstream.parser import ResponseLimits
from herdgate.upstream.stream import BodyStream
from herdgate.upstream.transport import UpstreamTransport

__all__ = ["BodyStream", "ResponseLimits", "UpstreamTransport"]

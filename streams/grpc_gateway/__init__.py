"""The gRPC door: `hindsight.v1.FrameService`, by which devices stream frames and are told when each is safe."""

from streams.grpc_gateway.checks import KnownDevice, any_device
from streams.grpc_gateway.limits import IMAGE_BYTES_KEY, GatewayLimits
from streams.grpc_gateway.service import FrameGateway
from streams.grpc_gateway.serving import SERVICE, serve

__all__ = ["IMAGE_BYTES_KEY", "SERVICE", "FrameGateway", "GatewayLimits", "KnownDevice", "any_device", "serve"]

//! gost's service-discovery plugin protocol, over HTTP and gRPC.

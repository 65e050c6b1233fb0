"""v2 inference over gRPC: the server and its messages."""

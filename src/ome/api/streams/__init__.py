"""Streams: market data and private events as they happen, and orders, over WebSockets and server-sent events."""

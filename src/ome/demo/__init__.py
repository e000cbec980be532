"""A market that moves: simulated traders, from a seed, against a running service, over its public interface alone.

`traders` decides what they do, without a clock or a network; `runner` does it and cleans up behind them; `flow` replays a file
instead; `stopping` says until when; `child` is how a service runs them as a process of its own. Nothing is imported here: the
service needs `child` alone, and the client takes half a second.
"""

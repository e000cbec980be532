"""The language of OME: numbers, enums, ids, instruments, commands, events, records, reasons and ports.

Everything else speaks it; it imports nothing else of `ome`.
"""

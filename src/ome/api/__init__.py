"""The HTTP edge: bytes in, commands out; events and records in, bytes out.

It speaks `domain` and calls its ports alone; `app.build_app` is the one way in. The routes that carry orders are served by
`dispatcher`, in front of the FastAPI application that declares them; everything else is ordinary FastAPI.
"""
